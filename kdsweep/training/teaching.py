"""What a stage's teachers say of the batches that it learns from."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from kdsweep.methods.term import Outputs


@dataclass(frozen=True)
class Teaching:
    """`ask` gives each teacher's outputs for the images at these indices of the training split: stored ones,
    or those of its network for these inputs. `epoch` surrounds the training of an epoch, each of whose
    batches is asked for once, in order. What is said in an epoch is `kept` for all who hear the same."""

    ask: Callable[[Tensor, Tensor], Sequence[Outputs]] = lambda indices, inputs: ()
    epoch: Callable[[int], AbstractContextManager[None]] = lambda number: nullcontext()
    kept: bool = True

    def once(self) -> "Teaching":
        """The same for a few updates that are only tried: about images of one number it asks once."""
        said: dict[int, Sequence[Outputs]] = {}

        def ask(indices: Tensor, inputs: Tensor) -> Sequence[Outputs]:
            if len(indices) not in said:
                said[len(indices)] = self.ask(indices, inputs)
            return said[len(indices)]

        return Teaching(ask)
