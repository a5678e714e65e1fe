"""Installed kdsweep changes nothing for any other Hydra program of the environment."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

PROGRAM = """
import hydra

@hydra.main(config_path="conf", config_name="config")
def main(config):
    print("job of", config.db)

main()
"""


@pytest.fixture
def foreign(tmp_path: Path):
    """A small program of another project; `without` hides kdsweep's plugins from Hydra."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "conf" / "db").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [{db: mysql}]\n")
    for name in ("mysql", "postgres"):
        (tmp_path / "conf" / "db" / f"{name}.yaml").write_text(f"name: {name}\n")
    hidden = (
        "import importlib.metadata as m, runpy, sys\n"
        "found = m.entry_points\n"
        "m.entry_points = lambda **k: [e for e in found(**k) if not e.value.startswith('kdsweep')]\n"
        "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )

    def run(*arguments: str, without: bool = False) -> subprocess.CompletedProcess[str]:
        start = ["-c", hidden, "program.py"] if without else ["program.py"]
        return subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip

    return run


def test_a_bad_choice_of_the_second_job_is_found_before_the_first(foreign):
    done = foreign("-m", "db=mysql,nosuch")
    assert done.returncode == 1
    assert "job of" not in done.stdout, "Hydra's own sweeper looks first"


@pytest.mark.long
def test_what_a_program_composes_and_does_is_the_same(foreign):
    for arguments in (["--cfg", "hydra"], ["-m", "db=mysql,postgres"], ["-m", "db=mysql,nosuch"]):
        ours, alone = (foreign(*arguments, without=without) for without in (False, True))
        assert (ours.returncode, ours.stderr) == (alone.returncode, alone.stderr)
        assert re.sub(r"\[20.*?\]", "", ours.stdout) == re.sub(
            r"\[20.*?\]", "", alone.stdout
        )  # without times


@pytest.mark.long
@pytest.mark.parametrize("group", ["sweeper", "launcher"])
def test_what_a_program_can_choose_is_the_same_but_for_our_names(foreign, group):
    told = [foreign(f"hydra/{group}=nosuch", without=without).stderr for without in (False, True)]
    ours, alone = ({line.strip() for line in text.splitlines() if line.startswith("\t")} for text in told)
    assert "basic" in alone <= ours
    assert all(name.startswith("kdsweep_") for name in ours - alone), ours
