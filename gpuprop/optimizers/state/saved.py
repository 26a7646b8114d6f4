"""What hands a call of ``save`` upwards."""

from __future__ import annotations

from os import PathLike
from typing import Any


class Saved:
    """A state of one array or of groups, which can be written to a file."""

    def save(self: Any, /, path: str | PathLike[str], **arrays: Any) -> None:
        """Write the state, or those of groups, into a safetensors file that replaces an old one in one move.

        Parameters
        ----------
        path : str, bytes or path-like
            An existing file is replaced, and keeps its permissions and its group, and its owner where the
            system lets it; a symbolic link is followed.
        **arrays : array
            More arrays for the same file, of any shape and any type of float, complex, integer or
            boolean: above all the parameters, ``x=x`` or ``**parameters``, which a resumed run needs of the
            same moment. They come back in ``state.extras`` of `gpuprop.load_state`.

        Raises
        ------
        OSError
            The file cannot be written; one that existed is as it was.
        TypeError
            An array has another type, is masked, or is out of the reach of the state's backend.
        ValueError
            `path` is no regular file, an array's name no text that UTF-8 can write, an array of the
            state not like the others, or what ranks save together is not of one state.
        RuntimeError
            The state was stepped meanwhile, or a step of it is under way; a file that existed is as it
            was.

        Notes
        -----
        A new file is written beside the old one, forced to the disk, and renamed: after a kill or a power
        cut at any moment, `path` is the old file or the new one. What a killed process may leave is a file
        ``.gpuprop-*.tmp``, which can be deleted.

        Of parts, where `init` had a communicator, all ranks save, with one path on a file system that all
        see. Each writes a file of its own, ``path.GENERATION.rankN``; once all are on the disk, the index of
        them takes the place of `path`; then the former parts are deleted, and what killed saves have left.
        So a kill of any rank, or of all, leaves `path` as it was or new, with all that belongs to it; and an
        error on one rank is raised on all. An index is copied, and moved to another folder, with its parts.
        Of the arrays given, those that have as many rows as the parameters, or are not the same on all
        ranks, are parts; of others, rank 0's is kept.

        Arrays are copied a block at a time. From a GPU, one array at a time passes through the host.

        What is code cannot be written: schedules from elsewhere than `gpuprop.schedules`, references of
        rules of your own, and optimizers of classes of your own. Then ``state.optimizer`` will be None; the
        file has the other hyperparameters, and the rule's name, so that no optimizer of another family
        goes on with the arrays.
        """
        from gpuprop import checkpoint

        checkpoint.save(self, path, **arrays)
