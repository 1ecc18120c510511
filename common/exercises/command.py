"""Command line of a chapter's exercises: table, check, hint, solution."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.cli import one_line_errors, parse
from common.config import require
from common.exercises import board
from common.exercises.check import check_file, silent
from common.exercises.exercise import Exercise, MeasuredExercise, Task, Verdict, read_task
from common.progress import console, print_table, say


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    numbers: Annotated[
        tyro.conf.Positional[tuple[int, ...]], tyro.conf.arg(metavar="[NUMBER ...]", help_behavior_hint="")
    ] = ()
    """Numbers of the exercises to check. Default: a table of all."""
    hint: bool = False
    """Print the hint instead of checking."""
    solution: bool = False
    """Print the solution instead of checking."""
    folder: Path | None = None
    """Folder with your files. Default: the chapter's folder exercises."""

    def __post_init__(self) -> None:
        require(not (self.hint and self.solution), "give one of --hint and --solution", "both")


@dataclass(frozen=True)
class Progress:
    """Exercises of a chapter with their verdicts."""

    exercises: tuple[Exercise, ...]
    tasks: tuple[Task, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def solved(self) -> int:
        """Count the right exercises."""
        return sum(verdict.status == "right" for verdict in self.verdicts)

    @property
    def remaining(self) -> list[int]:
        """List the positions of the exercises that are open or wrong."""
        return [place for place, verdict in enumerate(self.verdicts) if verdict.status != "right"]

    @property
    def next(self) -> tuple[Exercise, Task] | None:
        """Return the first exercise that is open or wrong, with its task; None if all are right."""
        return (self.exercises[self.remaining[0]], self.tasks[self.remaining[0]]) if self.remaining else None

    @property
    def minutes(self) -> int:
        """Return the estimated time for the remaining exercises, in minutes."""
        return sum(self.tasks[place].minutes for place in self.remaining)


def progress_of(exercises: Sequence[Exercise], home: Path, folder: Path | None = None) -> Progress:
    """Check all exercises of the chapter whose tasks are in the folder `home`; what they print is discarded.

    Of a measured exercise the kept verdict is returned, so nothing is trained.
    """
    verdicts = []
    for exercise in exercises:
        if isinstance(exercise, MeasuredExercise):
            path = (folder or home) / f"{exercise.file}.py"
            verdicts.append(board.verdict_of(board_path(exercise, home), path))
        else:
            with silent():
                verdicts.append(check_file(exercise, folder or home))
    tasks = tuple(read_task((folder or home) / f"{exercise.file}.py") for exercise in exercises)
    return Progress(tuple(exercises), tasks, tuple(verdicts))


def board_path(exercise: MeasuredExercise, home: Path) -> Path:
    """Return the file with the verdicts of a measured exercise."""
    return Path("runs") / home.parent.name / "exercises" / f"{exercise.file}.json"


def main(exercises: Sequence[Exercise], home: Path, arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 1 if an exercise that was named is not right."""
    chapter = home.parent.name
    program = f"python -m {chapter}.exercises"
    about = f"Check your solutions of the exercises in {chapter}/exercises/."
    with one_line_errors():
        options = parse(Options, sys.argv[1:] if arguments is None else arguments, prog=program, description=about)
        folder = options.folder or home
        if not folder.is_dir():
            raise FileNotFoundError(f"--folder {folder}: no such folder")
        known = {exercise.number: exercise for exercise in exercises}
        for number in options.numbers:
            require(number in known, f"the exercises of {chapter} have the numbers 1 to {len(known)}", number)
        if (options.hint or options.solution) and len(options.numbers) != 1:
            flag = "--hint" if options.hint else "--solution"
            raise ValueError(f"{flag} needs the number of one exercise: {program} 1 {flag}")
        if not options.numbers:
            show_table(progress_of(exercises, home, folder), program)
            return
        chosen = [known[number] for number in options.numbers]
        if options.hint:
            say("hint", chosen[0].hint)
        elif options.solution:
            console().print((home / "solutions" / f"{chosen[0].file}.py").read_text(encoding="utf-8"), soft_wrap=True)
        else:
            right = [show_check(exercise, home, folder, program) for exercise in chosen]
            sys.exit(0 if all(right) else 1)


def show_table(progress: Progress, program: str) -> None:
    """Print the status of each exercise, and the next one."""
    rows = [
        (f"{exercise.number} {task.title}", f"{exercise.file}.py", task.minutes, verdict.status)
        for exercise, task, verdict in zip(progress.exercises, progress.tasks, progress.verdicts, strict=True)
    ]
    print_table(["exercise", "file", "minutes", "status"], rows)
    say("solved", f"{progress.solved} of {len(rows)}")
    if progress.next is not None:
        say("next", f"{program} {progress.next[0].number}")
        say("time", f"about {progress.minutes} minutes for the remaining {len(progress.remaining)}")


def show_check(exercise: Exercise, home: Path, folder: Path, program: str) -> bool:
    """Check an exercise and print the verdict; tell whether it is right."""
    path = folder / f"{exercise.file}.py"
    verdict = check_file(exercise, folder)
    task = read_task(path)
    if verdict.status == "open" and task.text:
        console().print(f"{task.text}\n", soft_wrap=True)
    say(verdict.status, verdict.message)
    if verdict.note:
        say("note", verdict.note)
    if verdict.status != "right":
        with contextlib.suppress(ValueError):  # the folder is elsewhere
            path = path.relative_to(Path.cwd())
        say("file", str(path))
        say("help", f"{program} {exercise.number} --hint")
    if isinstance(exercise, MeasuredExercise) and verdict.status != "open":
        show_board(exercise, board_path(exercise, home), folder / f"{exercise.file}.py", verdict)
    return verdict.status == "right"


def show_board(exercise: MeasuredExercise, file: Path, path: Path, verdict: Verdict) -> None:
    """Keep the verdict of the reader's file; if it is right, print the leaderboard."""
    board.add(file, path, verdict)
    if verdict.status != "right":
        return
    current = board.checksum_of(path)
    rows = [
        (place, *attempt.verdict.scores.values(), attempt.date, "this one" if attempt.checksum == current else "")
        for place, attempt in enumerate(board.ranking(exercise, file), 1)
    ]
    print_table(["place", *verdict.scores, "measured", ""], rows)
