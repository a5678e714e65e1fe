"""The folders of sweeps and jobs: no two commands, nor two jobs, write into one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import COMMAND, TINY, Command, environment
from omegaconf import OmegaConf

from kdsweep.errors import ConfigError
from kdsweep.results.result import JobResult, SweepInfo
from kdsweep.sweeps.folders import refuse_results_below, take_folder

HOLD = """
import sys
from omegaconf import OmegaConf
from kdsweep.sweeps.folders import take_folder
lock = take_folder(OmegaConf.create({"hydra": {"sweep": {"dir": sys.argv[1]}}}), "hydra.sweep.dir")
print("held", flush=True)
sys.stdin.read()
"""


def take(folder, part="sweep"):
    config = OmegaConf.create({"hydra": {part: {"dir": str(folder)}}})
    return take_folder(config, f"hydra.{part}.dir")


def test_a_folder_is_one_commands_while_it_lives(tmp_path):
    folder = tmp_path / "out"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="another sweep or job is at work in it"):
        take(folder)
    with pytest.raises(ConfigError, match=r"hydra.run.dir=.*/3: is in .*/out, the folder of another sweep"):
        take(folder / "3", "run")
    other.kill()
    other.wait()
    take(folder).release()
    take(folder).release()


def test_a_sweeps_folder_takes_no_other_sweep_and_no_job(tmp_path):
    (tmp_path / "sweep.json").write_text('{"method": "grid"}')  # another program's
    take(tmp_path / "a").release()
    SweepInfo("run", [], 1).save(tmp_path)
    for part in ("run", "sweep"):
        with pytest.raises(ConfigError, match="another sweep or job"):
            take(tmp_path / "a" / "b", part)
    (tmp_path / "0").mkdir()
    JobResult(0, {}).save(tmp_path / "0")
    with pytest.raises(ConfigError, match=r"0/result.json of another sweep or job"):
        refuse_results_below(tmp_path)
    refuse_results_below(tmp_path / "0")  # the same job again


@pytest.mark.long
def test_two_at_once_into_one_folder_and_the_same_again(kdsweep: Command, tmp_path):
    """A sweep that is under way keeps another out; once it has ended the same goes on in its folder."""
    sweep = ("-m", "hydra.sweep.dir=out", "method=scratch", "seed=1,2", *TINY)
    lock = take(tmp_path / "out")
    told = kdsweep(*sweep, status=1).stderr
    assert told.startswith("kdsweep: hydra.sweep.dir=out: another sweep or job is at work in it")
    assert not list(tmp_path.glob("out/*/*"))
    lock.release()
    kdsweep(*sweep)
    assert kdsweep(*sweep).stdout.count("reused") >= 2
    assert "another sweep or job" in kdsweep("hydra.run.dir=out", *TINY, status=1).stderr
    assert len(list(tmp_path.glob("out/*/result.json"))) == 2


@pytest.fixture
def unwritable(tmp_path: Path):
    """A folder of another's, and what stands before a command for it to be kept out: root never is."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    if os.geteuid() != 0:
        folder.chmod(0o555)
        return folder, []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, of util-linux, to be kept out of a folder as root")
    os.chown(folder, 65534, -1)
    return folder, ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]


@pytest.mark.parametrize("arguments", [["temperature=2"], ["-m", "temperature=2,3"]])
def test_where_nothing_may_be_written_a_line_says_so(unwritable, arguments):
    folder, before = unwritable
    done = subprocess.run(
        [*before, COMMAND, *arguments], cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(r"Permission denied", done.stderr) and len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr and "(unexpected" not in done.stderr
    assert not list(folder.iterdir())


@pytest.mark.long
def test_no_home_is_needed(tmp_path):
    bare = {name: value for name, value in environment().items() if name != "HOME"}
    command = [COMMAND, "method=scratch", *TINY]
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
