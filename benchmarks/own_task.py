"""A hospital's own task: 600 made-up notes in a CSV, the default recipes, against TF-IDF on the same rows.

    python -m benchmarks.own_task --checkpoint=runs/pretrain-laptop --workdir=runs/own-task

The question is what a note says of smoking. It says as much of drinking and exercise, in the same words, so the order
decides. Prints kappa on 400 other notes and the CPU-minutes of each recipe, no setting changed. Synthetic.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
from pathlib import Path

from slm.files import read_json

OPTIONS = ("現在の習慣", "過去の習慣", "習慣なし", "不明")
SUBJECTS = ("喫煙", "飲酒", "運動")
BETWEEN = ("については本人の話では、", "に関して家族によれば、", "の状況は問診票では、", "は看護師が聞いたところ、")
STATES = (("現在も続けている", "毎日", "週に数回"), ("5年前にやめた", "以前していたが今はしない", "過去にあり"),
          ("しない", "習慣なし", "一度もない"), ("聴取できず", "不明", "確認していない"))
OTHERS = ("父は肺癌で死亡。", "母は高血圧で通院中。", "兄は喫煙者。", "妻は飲酒しない。", "睡眠は良好。", "食欲あり。")
OPENINGS = ("{age}歳{sex}。", "{age}歳の{sex}、定期受診。", "入院時聴取、{age}歳{sex}。")


def note(rng: random.Random, state: int) -> str:
    """A note whose patient has this state of smoking."""
    states = {"喫煙": state} | {subject: rng.randrange(4) for subject in SUBJECTS[1:]}
    sentences = [f"{subject}{rng.choice(BETWEEN)}{rng.choice(STATES[states[subject]])}。" for subject in SUBJECTS]
    sentences += rng.sample(OTHERS, 2)
    rng.shuffle(sentences)
    opening = rng.choice(OPENINGS).format(age=rng.randint(20, 95), sex=rng.choice(("男性", "女性")))
    return f"【合成】{opening}" + "".join(sentences)


def write(path: Path, rows: int, seed: int) -> None:
    rng = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", *(f"option{letter}" for letter in "ABCD"), "answer"])
        for number in range(rows):
            table.writerow([f"この患者の喫煙はどれですか。\n「{note(rng, number % 4)}」", *OPTIONS, "ABCD"[number % 4]])


def slm(*flags: str) -> float:
    """Runs a job; returns its CPU-minutes."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "slm.main", *flags], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system) / 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--workdir", default="runs/own-task")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--recipes", default="classify,choice")
    arguments = parser.parse_args()
    workdir = Path(arguments.workdir)
    train, test = workdir / "train.csv", workdir / "test.csv"
    write(train, arguments.rows, 1)
    write(test, 400, 2)
    for recipe in arguments.recipes.split(","):
        folder = workdir / f"{recipe}-{arguments.rows}"
        minutes = slm(f"--config=configs/sft.py:{recipe}", f"--config.checkpoint={arguments.checkpoint}",
                      f"--config.sets.own.files={train}", f"--workdir={folder}")
        slm("--config=configs/evaluate.py:tables", f"--config.checkpoint={folder}", f"--config.tables.own.file={test}",
            f"--config.tables.own.train_file={train}", f"--workdir={folder}-leaderboard")
        line = read_json(folder.with_name(f"{folder.name}-leaderboard") / "result.json")["own"]
        print(f"{recipe}, {arguments.rows} rows: {line}; {minutes:.1f} CPU-minutes", flush=True)


if __name__ == "__main__":
    main()
