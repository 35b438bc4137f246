"""Copies of the sources that are changed, built and run beside each other, for ci/mutants and
ci/models.
"""

import filecmp
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Much of a build is a single thread, so two builds keep two processors busy.
N_LANES = int(os.environ.get("JOBS", "2"))


class Failure(Exception):
    """A reason to end the whole run."""


class Lane:
    """A copy of some files and folders of the repository, with a target directory of its own."""

    def __init__(self, folder, copied, environment):
        self.folder = folder
        self.copy = folder / "copy"
        self.changed = []
        self.renew(copied)
        self.environment = dict(
            os.environ,
            CARGO_TARGET_DIR=str(folder / "target"),
            CARGO_TERM_COLOR="never",
            **environment,
        )

    def renew(self, copied):
        """Makes the copy equal to the sources. Files that are equal keep their times, by which
        cargo decides what to build again; the others get new ones."""
        kept = set()
        for name in copied:
            path = ROOT / name
            files = path.rglob("*") if path.is_dir() else [path]
            for file in (file for file in files if file.is_file()):
                relative = file.relative_to(ROOT)
                if "target" in relative.parts:
                    continue
                copy = self.copy / relative
                kept.add(copy)
                if not copy.exists() or not filecmp.cmp(file, copy, shallow=False):
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)
        for copy in [file for file in self.copy.rglob("*") if file.is_file() and file not in kept]:
            copy.unlink()

    def write(self, files):
        """Restores what the last call changed, and then changes these files."""
        for path in set(self.changed) - set(files):
            shutil.copyfile(ROOT / path, self.copy / path)
        for path, code in files.items():
            (self.copy / path).write_text(code)
        self.changed = list(files)

    def run(self, limit, *command, cfg=None):
        """Runs a command in the copy; if it builds, with `--cfg` and this name. Returns its exit
        code, or `None` if it was killed after `limit` seconds, and what it printed."""
        log = self.folder / "log"
        environment = dict(self.environment)
        if cfg:
            environment["RUSTFLAGS"] = f"{environment.get('RUSTFLAGS', '')} --cfg {cfg}".strip()
            # A folder of its own, because other flags would build everything again each time.
            environment["CARGO_TARGET_DIR"] += f"-{cfg}"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.copy,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own, so that its children are killed with it.
                start_new_session=True,
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        return code, log.read_text(errors="replace")


def in_lanes(lanes, items, work):
    """Calls `work(lane, item)` for all items. The lanes begin at opposite ends of the list, so that
    neighbours, which need the same binaries, are mostly built in one lane."""
    items, lock, failures = list(items), threading.Lock(), []

    def run(number, lane):
        while not failures:
            with lock:
                if not items:
                    return
                item = items.pop(0 if number % 2 == 0 else -1)
            try:
                work(lane, item)
            except BaseException as error:  # The main thread raises it again.
                failures.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def tail(log):
    return "\n".join("    " + line for line in log.splitlines()[-20:])


def errors(log):
    """The first errors of a compiler, for a line of the table."""
    lines = log.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("error")][:3]
    return "\n".join("    " + line for i in starts for line in lines[i : i + 5])
