"""What the project promises of itself."""

import configparser
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def base():
    return [line for line in SETUP["options"]["install_requires"].splitlines() if line and not line.startswith("#")]


def test_base_dependencies_are_few_and_bounded_and_installed_inside_the_bounds():
    assert len(base()) <= 15
    for line in base():
        name, low, high = re.fullmatch(r"([\w-]+)>=([\d.]+),<([\d.]+)", line).groups()
        version = [int(part) for part in importlib.metadata.version(name).split(".")[:3]]
        assert [int(p) for p in low.split(".")] <= version < [int(p) for p in high.split(".")], line


def test_extras_are_named():
    assert {"tpu", "cuda12", "gcs", "export", "local", "hugging_face", "evaluation", "dev"} <= set(SETUP["options.extras_require"])


def test_no_tensorflow_and_no_torch_come_with_the_base():
    """Nor with anything that it asks for; the tests have torch installed, for exports."""
    wanted, seen = base(), set()
    while wanted:
        requirement = Requirement(wanted.pop())
        if requirement.name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement.name)
        wanted += importlib.metadata.requires(requirement.name) or []
    assert "numpy" in seen and not seen & {"tensorflow", "torch", "transformers"}


def test_nothing_is_evaluated_or_unpickled():
    for path in [*ROOT.glob("slm/**/*.py"), *ROOT.glob("configs/*.py")]:
        assert not re.search(r"(?<![\w.])(eval|exec)\(|pickle|allow_pickle", path.read_text(encoding="utf-8")), path


def test_launch_scripts_show_their_commands_and_name_real_configs():
    done = subprocess.run(["bash", ROOT / "launch" / "laptop.sh", "--dry-run"], capture_output=True, text=True, check=True)
    commands = re.findall(r"--config=(configs/\w+\.py)", done.stdout)
    assert len(commands) == 9
    assert all((ROOT / path).exists() for path in commands)


def test_no_path_of_one_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    tracked = [name for name in tracked if (ROOT / name).is_file()]  # slm/configs is a link to a folder
    for name in tracked or [str(path.relative_to(ROOT)) for path in ROOT.glob("slm/**/*.py")]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"(/tmp/|/work/|/root/|/home/)[A-Za-z]", text) or name.startswith("tests/"), name
    assert sys.version_info >= (3, 11)
