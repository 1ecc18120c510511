"""CSV files with a header: cells, numbers, categories, missing values, and messages that name file, line and column."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.tables import houses, loading
from common.data.tables.cells import format_cells, parse_cells, read_cells
from common.data.tables.table import (
    MISSING,
    Categories,
    Numbers,
    Table,
    is_number,
    read_categories,
    read_columns,
    read_like,
    read_numbers,
)

HERE = Path("train.csv")


def cells(text):
    return parse_cells(text, HERE)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# Cells.


def test_quoted_cells_blank_lines_and_a_byte_order_mark(tmp_path):
    text = 'Id,Street,Note\r\n1, Pave ,"a, ""b"""\r\n\r\n2,"two\nlines",\r\n3,Grvl,ü\r\n'
    for encoding in ("utf-8", "utf-8-sig"):
        table = read_cells(write(tmp_path / "a.csv", text, encoding))
        assert table.columns == {
            "Id": ("1", "2", "3"),
            "Street": ("Pave", "two\nlines", "Grvl"),
            "Note": ('a, "b"', "", "ü"),
        }
        assert table.lines == (2, 4, 6), "the line where each row begins"


words = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=8).map(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_cells_survive_being_written_and_read(data):
    names = data.draw(st.lists(words.filter(bool), min_size=1, max_size=4, unique=True))
    rows = data.draw(st.integers(1, 5))
    columns = {name: tuple(data.draw(st.lists(words, min_size=rows, max_size=rows))) for name in names}
    assert cells(format_cells(columns)).columns == columns


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1))
def test_numbers_survive_being_written_and_read(values):
    text = ["NA" if value is None else repr(value) for value in values]
    read = read_numbers(cells(format_cells({"x": text})), "x").values.tolist()
    assert [None if math.isnan(value) else value for value in read] == values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*MISSING, "a", "A", "na", "b c", "é"]), min_size=1))
def test_categories_survive_being_written_and_read(column):
    read = read_categories(cells(format_cells({"x": column})), "x")
    assert [read.levels[code] if code >= 0 else None for code in read.codes.tolist()] == [
        None if cell in MISSING else cell for cell in column
    ]
    assert list(read.levels) == sorted(set(column) - set(MISSING))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.csv is empty: its first line names the columns"),
        ("\n\n", "train.csv is empty"),
        ("a,b\n", "train.csv has no rows below its header"),
        ("a,b\n1,2\n3\n", "train.csv line 3 has 1 cells, but the header names 2 columns"),
        ('a,b\n"x\ny",2\n1,2,3\n', "train.csv line 4 has 3 cells, but the header names 2 columns"),
        ('a,b\n1,2\n"x,3\n4,5\n', "train.csv line 3 is not a line of comma-separated values: unexpected end of data"),
        ('a\n"x"y\n', "train.csv line 2 is not a line of comma-separated values"),
        ("a,,b\n1,2,3\n", "train.csv line 1: column 2 has no name"),
        ("a,b, a\n1,2,3\n", "train.csv line 1 names the column 'a' twice"),
    ],
)
def test_what_is_no_table_is_one_line(text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        cells(text)


def test_a_file_that_is_absent_or_not_utf_8_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test.csv does not exist: --predict takes a file"):
        read_cells(tmp_path / "test.csv", "--predict")
    path = tmp_path / "latin.csv"
    path.write_bytes("a\né\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.csv is not UTF-8: byte 2 cannot be decoded"):
        read_cells(path)


def test_a_column_that_is_absent_gets_a_proposal():
    table = cells("LotArea,Street\n1,2\n")
    with pytest.raises(ValueError, match=r"^train.csv has no column 'Lotarea'; did you mean 'LotArea'\?$"):
        table.column("Lotarea")
    with pytest.raises(ValueError, match=r"^train.csv has no column 'x': it has LotArea, Street$"):
        table.column("x")
    wide = cells(",".join(f"c{n}" for n in range(20)) + "\n" + "1," * 19 + "1\n")
    with pytest.raises(ValueError, match=r"it has c0, .*, c11 and 8 more$"):
        wide.column("y")


# Numbers and categories.


@pytest.mark.parametrize("cell", ["1", "-2.5", "+.5", "3.", "1e3", "1E-3", "007"])
def test_numbers(cell):
    assert is_number(cell)


@pytest.mark.parametrize("cell", ["", "1_000", "inf", "1e999", "0x10", "1,5", "١", "1 2", "e5", "."])
def test_what_is_no_number(cell):
    assert not is_number(cell)


def test_a_column_is_numeric_if_all_that_is_known_are_numbers():
    table = read_columns(cells("a,b,c,d\n1,x,NA,1\n?,2,,2\nNA,NaN,?,3\n"), ["a", "b", "c", "d"], categorical=["d"])
    assert isinstance(table.columns["a"], Numbers)
    assert table.numbers("a").isnan().tolist() == [False, True, True]
    b, c, d = (table.categories(name) for name in "bcd")
    assert (b.levels, b.codes.tolist()) == (("2", "x"), [1, 0, -1])
    assert (c.levels, c.codes.tolist()) == ((), [-1, -1, -1])
    assert (d.levels, d.codes.tolist()) == (("1", "2", "3"), [0, 1, 2])


def test_rows_are_selected_by_index_and_by_mask():
    table = read_columns(cells("a,b\n1,x\n2,y\n3,x\n"), ["a", "b"])
    assert len(table) == 3
    for rows in (torch.tensor([2, 1]), torch.tensor([False, True, True])):
        part = table[rows]
        assert len(part) == 2
        assert sorted(part.numbers("a").tolist()) == [2, 3]
        assert part.categories("b").levels == ("x", "y"), "a level may have no row"
    assert len(Table({"b": table.columns["b"]})) == 3


def test_a_second_file_has_the_columns_of_the_first():
    first = read_columns(cells("a,b\n1,x\n2,3\n"), ["a", "b"])
    second = parse_cells("b,more,a\n7,t,NA\n8,t,5\n", Path("test.csv"))
    table = read_like(second, first)
    assert list(table.columns) == ["a", "b"]
    assert isinstance(table.columns["b"], Categories), "also where all its cells are numbers"
    assert table.categories("b").levels == ("7", "8")
    with pytest.raises(ValueError, match=r"^test.csv line 3: column 'a' is 'big', which is not a finite number$"):
        read_like(parse_cells("a,b\n1,x\nbig,y\n", Path("test.csv")), first)
    with pytest.raises(ValueError, match=r"^test.csv has no column 'a'"):
        read_like(parse_cells("b\n1\n", Path("test.csv")), first)


# A table with a target.


def test_target_identification_and_inputs_are_divided():
    data = loading.from_cells(cells("Id,a,b,y\n10,1,x,5\n11,2,,6\n"), "y")
    assert (data.id_name, data.target_name, list(data.inputs.columns)) == ("Id", "y", ["a", "b"])
    assert data.target.tolist() == [5, 6]
    named = loading.from_cells(cells("Id,a,b,y\n10,1,x,5\n11,2,,6\n"), "y", id_name="b")
    assert (named.id_name, list(named.inputs.columns)) == ("b", ["Id", "a"])
    assert loading.from_cells(cells("a,y\n1,5\n2,6\n"), "y").id_name is None


def test_columns_that_cannot_be_inputs_are_left_out_with_the_reason():
    rows = "".join(f"{n},{n if n != 7 else 'big'},street {n},NA,{n % 3}\n" for n in range(60))
    data = loading.from_cells(cells("y,area,address,nothing,kind\n" + rows), "y", categorical=["kind"])
    assert list(data.inputs.columns) == ["kind"]
    assert data.left_out == {
        "area": "60 categories, more than 50; line 9 is 'big', not a number",
        "address": "60 categories, more than 50",
        "nothing": "every value is missing",
    }
    with pytest.raises(ValueError, match=r"^train.csv has no column that can be an input besides the target 'y'$"):
        loading.from_cells(cells("y,nothing\n1,NA\n2,NA\n"), "y")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("NA", "train.csv line 3: column 'y' is 'NA', but the target must be a finite number in every row"),
        ("low", "train.csv line 3: column 'y' is 'low', but the target must be a finite number in every row"),
        ("0", "train.csv line 3: column 'y' is '0', but --log-target needs values above 0"),
        ("2", "train.csv: the target 'y' is 2 in every row: nothing to predict"),
    ],
)
def test_a_bad_target_is_one_line(target, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        loading.from_cells(cells(f"a,y\n1,2\n2,{target}\n"), "y", log_target=True)


def test_names_of_columns_are_checked():
    table = cells("a,y\n1,2\n2,3\n")
    for target, id_name, categorical in (("z", None, []), ("y", "z", []), ("y", None, ["z"])):
        with pytest.raises(ValueError, match=r"^train.csv has no column 'z'"):
            loading.from_cells(table, target, id_name=id_name, categorical=categorical)
    for id_name, categorical in (("y", []), (None, ["y"])):
        with pytest.raises(ValueError, match="the target 'y' cannot be an input or identify the rows"):
            loading.from_cells(table, "y", id_name=id_name, categorical=categorical)


def test_a_csv_file_has_a_card_that_depends_on_every_cell(tmp_path):
    text = "Id,a,y\n1,1,2\n2,x,3\n"
    one = loading.load_csv(write(tmp_path / "sales.csv", text), "y")
    two = loading.load_csv(write(tmp_path / "sales.csv", text.replace("x", "z")), "y")
    assert (one.card.name, one.card.embedded) == ("sales", False)
    assert one.card.description.startswith("2 rows, 0 numeric and 1 categorical inputs, from ")
    assert one.card.sha256 != two.card.sha256


def test_new_rows_need_a_column_that_identifies_them(tmp_path):
    data = loading.load_csv(write(tmp_path / "train.csv", "Id,a,y\n1,1,2\n2,5,3\n"), "y")
    ids, table = loading.read_new_rows(write(tmp_path / "test.csv", "a,Id\n7,x9\nNA,x10\n"), data)
    assert ids == ("x9", "x10")
    assert table.numbers("a")[0] == 7
    data = loading.load_csv(write(tmp_path / "train.csv", "a,y\n1,2\n5,3\n"), "y")
    with pytest.raises(ValueError, match=r"test.csv: --predict needs --id, the column that identifies the rows"):
        loading.read_new_rows(tmp_path / "test.csv", data)


# Embedded tables.


def test_house_sales_are_the_same_every_time_and_are_what_they_claim():
    sales = houses.sell()
    assert sales.columns == houses.sell().columns
    data = loading.load_table("houses")
    assert data.log_target
    assert list(data.left_out) == ["Parcel"]
    assert len(data.inputs) == len(data.target) == houses.SALES
    missing = {
        name: float((column.values.isnan() if isinstance(column, Numbers) else column.codes < 0).double().mean())
        for name, column in data.inputs.columns.items()
    }
    assert missing["LotFrontage"] == pytest.approx(houses.FRONTAGE_MISSING, abs=0.03)
    assert missing["KitchenQuality"] == pytest.approx(houses.KITCHEN_MISSING, abs=0.02)
    assert missing["GarageType"] == missing["GarageArea"] > 0, "no garage, no area"
    assert missing["PoolQuality"] > 0.9
    assert sum(share > 0 for share in missing.values()) == 6


def test_the_price_of_a_house_by_hand():
    """A house at every reference value: no pool, no basement, new, 1,400 square feet."""
    text = (
        "Neighbourhood,OverallQuality,YearBuilt,LivingArea,LotArea,LotFrontage,BasementArea,Bathrooms,KitchenQuality,"
        "GarageArea,GarageType,Heating,PoolQuality,SaleKind\n"
        "Northfield,6,2010,1400,9000,70,0,2,Good,NA,NA,Oil,NA,Foreclosure\n"
        "Old Town,6,1910,2800,9000,NA,1000,4,NA,350,Detached,Gas,Fair,Normal\n"
    )
    table = read_columns(cells(text), text.partition("\n")[0].split(","))
    table = Table({**table.columns, "GarageArea": Numbers(torch.tensor([math.nan, 350.0]).double())})
    one, two = houses.expected_log_price(table).tolist()
    assert one == pytest.approx(12 + 0.075 * 0.5 + 0.004 * 5 + 0.08 + 0.05 + 0.02 - 0.06 - 0.22)
    weights = [math.exp(a + 0.5 * b) for a, b, _ in houses.KITCHENS.values()]
    kitchen = sum(w * effect for w, (*_, effect) in zip(weights, houses.KITCHENS.values(), strict=True)) / sum(weights)
    garage, town = 0.02 + 0.0002 * 100, -0.05 + 0.15
    area = (0.55 + 0.03 * 0.5) * math.log(2)
    assert two == pytest.approx(12 + 0.075 * 0.5 + area + 0.06 + 2 * 0.08 + kitchen + garage + town)


def test_what_is_left_of_the_price_is_noise():
    """Its variance is that of the noise, plus that of what is missing at random."""
    data = loading.load_table("houses")
    assert data.best is not None
    noise = data.target.log() - data.best(data.inputs)
    known = ~data.inputs.numbers("LotFrontage").isnan() & (data.inputs.categories("KitchenQuality").codes >= 0)
    for rows, sigma in (
        (known, houses.SIGMA),
        (
            data.inputs.numbers("LotFrontage").isnan(),
            math.hypot(houses.SIGMA, houses.FRONTAGE_EFFECT * houses.FRONTAGE_DEVIATION),
        ),
    ):
        count = int(rows.sum())
        assert float(noise[rows].mean()) == pytest.approx(0, abs=3.5 * sigma / math.sqrt(count))
        assert float(noise[rows].std()) == pytest.approx(sigma, rel=3.5 / math.sqrt(2 * count))


def test_conditional_expectations_are_those_of_the_draw():
    drawn = houses.draw(4_000, torch.Generator().manual_seed(1))
    table = read_columns(cells(format_cells(drawn)), [name for name in drawn if name not in ("Id", "Parcel")])
    off = table.numbers("LotFrontage") - houses.frontage_given(table.numbers("LotArea"))
    assert float(off.mean()) == pytest.approx(0, abs=0.5)
    assert float(off.std()) == pytest.approx(houses.FRONTAGE_DEVIATION, rel=0.05)
    quality, kitchen = table.numbers("OverallQuality"), table.categories("KitchenQuality")
    for level in (5, 6, 7):
        rows = quality == level
        shares = houses.kitchen_given(quality[rows][:1] - 5.5)[0]
        for place, name in enumerate(houses.KITCHENS):
            share = (kitchen.codes[rows] == kitchen.levels.index(name)).double().mean()
            assert float(share) == pytest.approx(float(shares[place]), abs=0.06)


def test_diabetes_is_the_real_data():
    data = loading.load_table("diabetes")
    assert (len(data.inputs), list(data.inputs.columns)) == (442, list(loading.MEASUREMENTS))
    assert data.target.mean() == pytest.approx(152.13, abs=0.01)
    assert data.inputs.numbers("bmi")[0] == pytest.approx(32.1)
    assert not data.log_target
    assert data.best is None
