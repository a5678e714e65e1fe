"""The line that a job of a sweep prints when it ends."""

from kdsweep.results.names import link_name
from kdsweep.results.result import INTERRUPTED, PRUNED, JobResult
from kdsweep.system.terminal import seconds


def sweep_line(result: JobResult, jobs: int) -> str:
    """[3/6] T=4  val 97.50 %  test 96.94 %  trained in 2.1 s."""
    if result.error:
        figures = result.error if result.error in (INTERRUPTED, PRUNED) else "failed"
    else:
        student = result.student
        first = [
            link_name(role)
            for role, network in result.networks.items()
            if not network.members and network.key != student.key and not network.reused
        ]
        how = "reused" if student.reused else f"trained in {seconds(student.seconds)}"
        val, test = result.percentages("student")
        figures = f"val {val} %  " if val else ""
        figures += f"test {test} %  {how}" + (f", after {' and '.join(first)}" if first else "")
    of = f"/{jobs}" if result.number < jobs else ""  # a search that retries lost trials exceeds its number
    which = "confirm" if result.confirms else f"{result.number + 1}{of}"
    seed = f" seed={result.seed}" if result.confirms and "seed" not in result.swept else ""
    return f"[{which}] {result.name}{seed}  {figures}"
