"""Mazes: generation, reading, distances, and two environments that must agree."""

import random
import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.mazes import maze as mazes
from common.data.mazes.batch import ACTIONS, MazeBatch, next_states
from common.data.mazes.maze import (
    CARVE,
    MOVES,
    Maze,
    carve,
    colours,
    distances,
    draw_mazes,
    letters,
    parse_maze,
    read_maze,
    shortest_path,
    worth_of,
)

CORRIDOR = "#####\nS   E\n#####"
RING = "#######\n#     #\n# ### #\nS ### E\n# ### #\n#   # #\n#######"

sizes = st.tuples(st.integers(1, 7), st.integers(1, 9))
algorithms = st.sampled_from(sorted(CARVE))


def floor_tiles(maze):
    return int((~maze.walls).sum())


@settings(max_examples=60, deadline=None)
@given(size=sizes, algorithm=algorithms, seed=st.integers(0, 10_000))
def test_a_carved_maze_is_a_spanning_tree_with_two_openings(size, algorithm, seed):
    rows, columns = size
    maze = carve(rows, columns, random.Random(seed), algorithm=algorithm)
    assert maze.walls.shape == (2 * rows + 1, 2 * columns + 1)
    assert maze.start == (1, 0) and maze.exit == (2 * rows - 1, 2 * columns)
    cells = rows * columns
    assert floor_tiles(maze) == cells + (cells - 1) + 2, "cells, the passages of a tree, and the two openings"
    assert not maze.walls[1::2, 1::2].any()
    assert maze.walls[0::2, 0::2].all()
    assert int((distances(maze) >= 0).sum()) == floor_tiles(maze), "every tile is connected to the exit"
    border = maze.walls.clone()
    border[1:-1, 1:-1] = True
    border[maze.start] = border[maze.exit] = True
    assert border.all()


@settings(max_examples=40, deadline=None)
@given(size=sizes, algorithm=algorithms, seed=st.integers(0, 10_000), loops=st.floats(0, 1, allow_subnormal=False))
def test_loops_open_their_share_of_the_walls_that_are_left(size, algorithm, seed, loops):
    rows, columns = size
    perfect = carve(rows, columns, random.Random(seed), algorithm=algorithm)
    looped = carve(rows, columns, random.Random(seed), algorithm=algorithm, loops=loops)
    left = rows * (columns - 1) + (rows - 1) * columns - (rows * columns - 1)
    assert floor_tiles(looped) - floor_tiles(perfect) == round(loops * left)
    assert not (looped.walls & ~perfect.walls).any(), "no wall may be added"


def test_the_same_seed_carves_the_same_maze_and_algorithms_differ():
    def drawn(algorithm, seed):
        return str(carve(6, 9, random.Random(seed), algorithm=algorithm))

    for algorithm in CARVE:
        assert drawn(algorithm, 3) == drawn(algorithm, 3) != drawn(algorithm, 4)
    assert len({drawn(algorithm, 3) for algorithm in CARVE}) == 3


def test_algorithms_differ_in_path_length_and_dead_ends():
    """Depth-first makes long paths, Prim's many dead ends."""

    def dead_ends(maze):
        floor = (~maze.walls).float()
        open_sides = sum(torch.roll(floor, move, (0, 1)) for move in MOVES)
        return int(((open_sides == 1) & ~maze.walls)[1:-1, 1:-1].sum())

    by = {name: draw_mazes(30, 8, 8, seed=0, algorithms=(name,)) for name in CARVE}
    paths = {name: sum(int(distances(maze).max()) for maze in drawn) for name, drawn in by.items()}
    ends = {name: sum(map(dead_ends, drawn)) for name, drawn in by.items()}
    assert paths["depth-first"] > paths["kruskal"] > paths["prim"]
    assert ends["depth-first"] < ends["kruskal"] < ends["prim"]


def test_kinds_alternate():
    drawn = draw_mazes(8, 3, 3, seed=1, algorithms=("prim", "kruskal"), loops=(0.0, 1.0))
    assert [floor_tiles(maze) for maze in drawn] == [19, 19, 23, 23] * 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"rows": 0}, "at least one row and one column of cells, got 0x2"), ({"loops": 1.5}, "--loops must be between")],
)
def test_invalid_maze_sizes_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        carve(**{"rows": 2, "columns": 2, "rng": random.Random(0), **bad})  # pyright: ignore[reportCallIssue]


@settings(max_examples=40, deadline=None)
@given(size=sizes, algorithm=algorithms, seed=st.integers(0, 10_000), loops=st.sampled_from([0.0, 0.3]))
def test_written_mazes_are_read_back(size, algorithm, seed, loops):
    maze = carve(size[0], size[1], random.Random(seed), algorithm=algorithm, loops=loops)
    read = parse_maze(str(maze))
    assert torch.equal(read.walls, maze.walls)
    assert (read.start, read.exit) == (maze.start, maze.exit)
    trimmed = parse_maze("\n".join(line.rstrip() for line in str(maze).splitlines()).replace(" ", ".") + "\n\n")
    assert torch.equal(trimmed.walls, maze.walls), "dots, or trailing spaces removed by an editor"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.txt is empty: draw it with"),
        ("###\n# E\n###", "m.txt has no start: add one 'S'"),
        ("###\nS #\n###", "m.txt has no exit: add one 'E'"),
        ("S#\nSE", "m.txt has 2 starts, in lines 1 and 2: leave one 'S'"),
        ("#####\nS # E\n#####", "m.txt: the exit cannot be reached from the start: open a wall between them"),
        ("###\nSxE", "m.txt has 'x' in line 2, column 2: the letters are '#' wall"),
    ],
)
def test_an_invalid_drawing_is_reported(tmp_path, text, message):
    path = tmp_path / "m.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{message}")):
        read_maze(path)


def test_a_missing_or_binary_drawing_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.txt does not exist: draw a maze with '#' wall"):
        read_maze(tmp_path / "gone.txt")
    (tmp_path / "m.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_maze(tmp_path / "m.png")


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="#SE .@\nx", max_size=40))
def test_any_text_is_a_maze_or_a_clear_error(text):
    complaint = ""
    try:
        maze = parse_maze(text)
    except ValueError as error:
        complaint = str(error)
    if complaint:
        assert complaint.startswith("the maze")
    else:
        assert len(shortest_path(maze)) == int(distances(maze)[maze.start]) + 1


def test_distances_by_hand():
    maze = parse_maze(RING)
    steps = distances(maze)
    assert steps[3].tolist() == [10, 9, -1, -1, -1, 1, 0]
    assert steps[5].tolist() == [-1, 11, 12, 13, -1, 3, -1]
    path = shortest_path(maze)
    assert path[0] == maze.start and path[-1] == maze.exit and len(path) == 11
    assert (1, 3) in path


@settings(max_examples=30, deadline=None)
@given(size=sizes, algorithm=algorithms, seed=st.integers(0, 10_000), loops=st.sampled_from([0.0, 0.3]))
def test_distances_satisfy_their_recursion(size, algorithm, seed, loops):
    """d = 1 + the minimum over the neighbours, 0 at the exit; networkx finds the same distances."""
    import networkx

    maze = carve(size[0], size[1], random.Random(seed), algorithm=algorithm, loops=loops)
    floor = [tuple(tile) for tile in (~maze.walls).nonzero().tolist()]
    graph = networkx.Graph()
    graph.add_nodes_from(floor)
    graph.add_edges_from(((r, c), (r + d, c + e)) for r, c in floor for d, e in MOVES if (r + d, c + e) in set(floor))
    known = networkx.single_source_shortest_path_length(graph, maze.exit)
    steps = distances(maze)
    assert all(int(steps[tile]) == known[tile] for tile in floor)


def test_a_missing_path_is_reported():
    with pytest.raises(ValueError, match="cannot be reached from the start"):
        shortest_path(Maze(walls=torch.tensor([[False, True, False]]), start=(0, 0), exit=(0, 2)))


def test_pictures():
    maze = parse_maze(CORRIDOR)
    assert letters(maze, (1, 2)) == "#####\nS @ E\n#####"
    picture = colours(maze, (1, 2), path=[(1, 1)], scale=3)
    assert picture.shape == (9, 15, 3) and picture.dtype == torch.uint8
    tones = picture[4, 1::3].tolist()
    assert len({tuple(tone) for tone in tones}) == 5, "start, path, agent, floor and exit have different colours"
    assert torch.equal(picture[:3], picture[6:])


# The worlds.


def test_next_states_by_hand():
    walls = parse_maze(CORRIDOR).walls
    table = next_states(torch.stack([walls, walls]))
    assert table.shape == (2, 3, 5, 4)
    assert table[0, 1, 0].tolist() == [5, 6, 5, 5], "up, right, down, left: only right leads anywhere"
    assert table[0, 1, 4].tolist() == [9, 9, 9, 8], "off the board is a wall"
    assert table[1, 1, 2].tolist() == [22, 23, 22, 21], "states of the second maze follow those of the first"


def test_rewards_of_the_two_kinds():
    maze = parse_maze(CORRIDOR)
    worth, bump = worth_of(maze)
    assert bump == 0 and worth.sum() == 1 and worth[maze.exit] == 1
    worth, bump = worth_of(maze, "book")
    assert bump == -100 and worth[maze.exit] == 100 and worth[maze.start] == -100
    coins = worth_of(carve(20, 20, random.Random(0)), "book")[0]
    assert set(coins.unique().tolist()) == {-100, -1, 0, 100}
    assert 0.4 < float((coins == -1).float().mean()) < 0.6
    environment = MazeBatch([maze], rewards="book")
    step = environment.step(torch.tensor([0]))
    assert step.reward.tolist() == [-100] and step.next_state.tolist() == [5], (
        "a move into a wall has a negative reward and does not move the agent"
    )


def make_gymnasium(maze, limit=1_000, **settings):
    return gymnasium.make("common.data.mazes.environment:Maze-v0", maze=maze, max_episode_steps=limit, **settings)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    rewards=st.sampled_from(["exit", "book"]),
    limit=st.integers(1, 30),
    loops=st.sampled_from([0.0, 0.5]),
)
def test_the_batch_agrees_with_gymnasium_step_by_step(seed, size, rewards, limit, loops):
    drawn = draw_mazes(3, *size, seed=seed, loops=(loops,))
    batch = MazeBatch(drawn, rewards=rewards, limit=limit)
    tiles = drawn[0].walls.numel()
    singles = [make_gymnasium(maze, limit, rewards=rewards, disable_env_checker=True) for maze in drawn]
    states = [env.reset(seed=0)[0] for env in singles]
    assert (batch.state % tiles).tolist() == states
    generator = torch.Generator().manual_seed(seed)
    for _ in range(60):
        actions = torch.randint(ACTIONS, (3,), generator=generator)
        step = batch.step(actions)
        for n, env in enumerate(singles):
            next_state, reward, terminated, truncated, _ = env.step(int(actions[n]))
            assert int(step.next_state[n]) == n * tiles + next_state
            assert float(step.reward[n]) == reward
            assert (bool(step.terminated[n]), bool(step.truncated[n])) == (terminated, truncated)
            if terminated or truncated:
                next_state, _ = env.reset()
            assert int(batch.state[n]) == n * tiles + next_state, "an agent whose episode ended is at its start"


def test_gymnasiums_checker_passes():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*human.*")
        for rewards in ("exit", "book"):
            check_env(make_gymnasium(None, rewards=rewards, maze_seed=3, render_mode="rgb_array").unwrapped)


def test_rendering():
    maze = parse_maze(CORRIDOR)
    env = make_gymnasium(maze, render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    assert env.render() == "#####\nS@  E\n#####"
    env = make_gymnasium(maze, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(1)
    picture = env.render()
    assert isinstance(picture, np.ndarray) and picture.shape == (24, 40, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, colours(maze, (1, 1), scale=8).numpy())
    assert make_gymnasium(maze).unwrapped.render() is None


def test_a_seeded_environment_has_the_books_size_and_is_repeatable():
    one, two, other = (getattr(make_gymnasium(None, maze_seed=seed).unwrapped, "maze") for seed in (5, 5, 6))  # noqa: B009
    assert one.walls.shape == (11, 21)
    assert str(one) == str(two) != str(other)


def test_environments_cycle_through_mazes_and_resume_from_a_checkpoint():
    drawn = draw_mazes(2, 3, 3, seed=0)
    environment = MazeBatch(drawn, environments=5)
    assert (environment.state // 49).tolist() == [0, 1, 0, 1, 0]
    for _ in range(7):
        environment.step(torch.randint(ACTIONS, (5,)))
    saved = {name: value.clone() for name, value in environment.state_dict().items()}
    other = MazeBatch(drawn, environments=5)
    other.load_state_dict(saved)
    for _ in range(7):
        action = torch.randint(ACTIONS, (5,))
        assert all(torch.equal(a, b) for a, b in zip(environment.step(action), other.step(action), strict=True))
    assert torch.equal(environment.steps, other.steps)


def test_invalid_batches_are_rejected():
    with pytest.raises(ValueError, match="must be of one size"):
        MazeBatch([*draw_mazes(1, 2, 2, seed=0), *draw_mazes(1, 2, 3, seed=0)])
    with pytest.raises(ValueError, match="at least one step, got 0"):
        MazeBatch(draw_mazes(1, 2, 2, seed=0), limit=0)


def test_cards_of_different_mazes_differ():
    one, two = mazes.card_of(draw_mazes(2, 2, 2, seed=0), "a"), mazes.card_of(draw_mazes(2, 2, 2, seed=1), "a")
    assert one.embedded and one.sha256 != two.sha256
