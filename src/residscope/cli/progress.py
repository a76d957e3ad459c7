"""What is said while a command works."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def show_progress(model: str) -> Iterator[None]:
    """What is being done with a model, on the error stream, while it lasts and where that is a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from residscope.running.progress import Step, progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{escape(model)}: loading", total=None)

        def take(step: Step) -> None:
            bar.update(task, description=f"{escape(model)}: {step.what}", completed=step.done, total=step.total)

        with progress(take):
            yield
