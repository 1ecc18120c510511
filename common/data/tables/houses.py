"""Invented house sales in the layout of Kaggle's house prices; the best possible prediction is known.

The logarithm of a price is a function f of the house, plus noise:

    log price = f(house) + sigma e,   e ~ N(0, 1),  sigma = 0.1

f is not linear: a large area is worth more in a house of high quality, a house loses value with age but gains it in the
Old Town, and the logarithm or the square root of an area counts. Fence and MonthSold have no effect. Three kinds of
values are missing, as in Kaggle's table:

    GarageType, GarageArea, PoolQuality, Fence   NA because there is no garage, pool or fence
    LotFrontage                                  NA at random: Gaussian, with a mean that depends on LotArea
    KitchenQuality                               NA at random: probabilities that depend on OverallQuality

Both columns that are missing at random have an additive effect. So E[log price | row] is f with their conditional
expectations in the place of the missing values. No prediction has a smaller expected squared error of the logarithm.

Dimensions: N sales.
"""

from pathlib import Path

import torch
from torch import Tensor

from common.data.tables.cells import Cells, format_cells, parse_cells
from common.data.tables.table import Categories, Table, read_columns

PATH = Path("houses.csv")
"""Name of the sales in messages; there is no such file."""
SEED = 20_261_130
SALES = 1_500
SIGMA = 0.1
YEAR_SOLD = 2_010

NEIGHBOURHOODS = {
    "Mill Lane": (0.16, -0.12),
    "Northfield": (0.15, 0.02),
    "Old Town": (0.13, -0.05),
    "Riverside": (0.12, 0.12),
    "Westgate": (0.11, -0.02),
    "College Hill": (0.10, 0.08),
    "Harbour": (0.08, 0.18),
    "Station Road": (0.06, -0.15),
    "Orchard Park": (0.05, 0.05),
    "Abbey Green": (0.02, 0.25),
    "Quarry End": (0.015, -0.20),
    "Lighthouse Point": (0.005, 0.30),
}
HEATING = {"Gas": (0.97, 0.0), "Oil": (0.02, -0.06), "Coal": (0.008, -0.12), "Wood": (0.002, -0.10)}
GARAGES = {"Attached": (0.55, 0.06), "Detached": (0.25, 0.02), "Built-in": (0.08, 0.09), "NA": (0.12, 0.0)}
POOLS = {"Excellent": (0.012, 0.12), "Good": (0.016, 0.08), "Fair": (0.012, 0.0), "NA": (0.96, 0.0)}
FENCES = {"Wood": (0.10, 0.0), "Wire": (0.04, 0.0), "Privacy": (0.06, 0.0), "NA": (0.80, 0.0)}
SALES_KINDS = {"Normal": (0.82, 0.0), "Family": (0.08, -0.05), "Foreclosure": (0.07, -0.22), "New": (0.03, 0.08)}
"""Levels of a column: probability, and effect on the logarithm of the price; NA is a missing value."""

KITCHENS = {
    "Excellent": (-2.2, 0.8, 0.12),
    "Good": (-0.3, 0.4, 0.05),
    "Typical": (0.8, 0, 0),
    "Fair": (-1.8, -0.5, -0.08),
}
"""Levels of KitchenQuality: logit at quality 5.5, slope of the logit with quality, and effect."""
FRONTAGE_EFFECT, FRONTAGE_DEVIATION, FRONTAGE_MISSING = 0.004, 8.0, 0.15
KITCHEN_MISSING = 0.05


def expected_log_price(table: Table) -> Tensor:
    """(N,) E[log price | row], with conditional expectations for the values that are missing at random"""
    quality = table.numbers("OverallQuality") - 5.5
    age = YEAR_SOLD - table.numbers("YearBuilt")
    old_town = _effects(table.categories("Neighbourhood"), {"Old Town": (0, 1.0)}).bool()
    frontage, mean_frontage = table.numbers("LotFrontage"), frontage_given(table.numbers("LotArea"))
    kitchen, kitchen_effects = table.categories("KitchenQuality"), [effect for *_, effect in KITCHENS.values()]
    mean_kitchen = kitchen_given(quality) @ torch.tensor(kitchen_effects, dtype=torch.float64)
    known_kitchen = _effects(kitchen, {level: (0, effect) for level, (*_, effect) in KITCHENS.items()})
    garage = 0.0002 * (table.numbers("GarageArea") - 250)
    return (
        12.0
        + 0.075 * quality
        + (0.55 + 0.03 * quality) * (table.numbers("LivingArea") / 1_400).log()
        + 0.08 * (table.numbers("LotArea") / 9_000).log()
        + 0.06 * (table.numbers("BasementArea") / 1_000).sqrt()
        + 0.08 * table.numbers("Bathrooms").log2()
        + torch.where(old_town, 0.15 * age / 100, -0.3 * (1 - (-age / 40).exp()))
        + garage.nan_to_num(0.0)  # without a garage
        + FRONTAGE_EFFECT * (torch.where(frontage.isnan(), mean_frontage, frontage) - 65)
        + torch.where(kitchen.codes < 0, mean_kitchen, known_kitchen)
        + _effects(table.categories("Neighbourhood"), NEIGHBOURHOODS)
        + _effects(table.categories("Heating"), HEATING)
        + _effects(table.categories("GarageType"), GARAGES)
        + _effects(table.categories("PoolQuality"), POOLS)
        + _effects(table.categories("SaleKind"), SALES_KINDS)
    )


def frontage_given(lot_area: Tensor) -> Tensor:
    """(N,) -> (N,) E[LotFrontage | LotArea] in feet"""
    return 65 + 25 * (lot_area / 9_000).log()


def kitchen_given(quality: Tensor) -> Tensor:
    """(N,) OverallQuality - 5.5 -> (N, 4) probabilities of the levels of KitchenQuality"""
    logit, slope, _ = torch.tensor(list(KITCHENS.values()), dtype=torch.float64).unbind(1)
    return (logit + slope * quality[:, None]).softmax(dim=1)


def _effects(column: Categories, levels: dict[str, tuple[float, float]]) -> Tensor:
    """(N,) effect of each row's level; 0 for a missing value"""
    effects = [levels.get(level, (0, 0.0))[1] for level in column.levels]
    return torch.tensor([*effects, 0.0], dtype=torch.float64)[column.codes]  # code -1 takes the last one


def draw(sales: int, generator: torch.Generator) -> dict[str, list[str]]:
    """Draw the columns of the inputs as the cells of a CSV file, without missing values at random."""

    def normal() -> Tensor:
        return torch.randn(sales, generator=generator, dtype=torch.float64)

    def levels(probabilities: Tensor, names: dict) -> list[str]:
        drawn = torch.multinomial(probabilities.expand(sales, -1), 1, generator=generator)[:, 0]
        return [list(names)[code] for code in drawn.tolist()]

    def independent(names: dict[str, tuple[float, float]]) -> list[str]:
        return levels(torch.tensor([[probability for probability, _ in names.values()]], dtype=torch.float64), names)

    neighbourhood = independent(NEIGHBOURHOODS)
    effect = torch.tensor([NEIGHBOURHOODS[name][1] for name in neighbourhood], dtype=torch.float64)
    uniform = torch.rand(sales, generator=generator, dtype=torch.float64)
    old_town = torch.tensor([name == "Old Town" for name in neighbourhood])
    age = torch.where(old_town, 110 * uniform**0.7, 70 * uniform**1.5).round()
    quality = (5.5 + 6 * effect - 0.01 * (age - 30) + 1.3 * normal()).round().clamp(1, 10)
    living = (1_400 * (0.06 * (quality - 5.5) + 0.28 * normal()).exp()).round()
    lot = (9_000 * (0.3 * (living / 1_400).log() + 0.35 * normal()).exp()).round()
    frontage = (frontage_given(lot) + FRONTAGE_DEVIATION * normal()).round()
    basement = (0.6 * living * (0.2 * normal()).exp()).round() * (normal() > -1.3)
    bathrooms = (living / 900 + 0.5 * normal()).round().clamp(1, 4)
    garage = independent(GARAGES)
    garage_area = (450 + 0.08 * (living - 1_400) + 110 * normal()).round().clamp(min=180)
    month = torch.randint(1, 13, (sales,), generator=generator)
    return {
        "Id": [str(number) for number in range(1, sales + 1)],
        "Parcel": [f"{1 + 37 * number % 89:03}-{10_007 * number % 99_991:05}" for number in range(sales)],
        "LotFrontage": _whole(frontage),
        "LotArea": _whole(lot),
        "Neighbourhood": neighbourhood,
        "OverallQuality": _whole(quality),
        "YearBuilt": _whole(YEAR_SOLD - age),
        "LivingArea": _whole(living),
        "BasementArea": _whole(basement),
        "Bathrooms": _whole(bathrooms),
        "Heating": independent(HEATING),
        "KitchenQuality": levels(kitchen_given(quality - 5.5), KITCHENS),
        "GarageType": garage,
        "GarageArea": ["NA" if kind == "NA" else area for kind, area in zip(garage, _whole(garage_area), strict=True)],
        "PoolQuality": independent(POOLS),
        "Fence": independent(FENCES),
        "MonthSold": _whole(month),
        "SaleKind": independent(SALES_KINDS),
    }


def sell(sales: int = SALES) -> Cells:
    """Draw the sales, the same on every machine, as the cells of a CSV file with the target SalePrice."""
    generator = torch.Generator().manual_seed(SEED)
    columns = draw(sales, generator)
    log_price = expected_log_price(read_columns(parse_cells(format_cells(columns), PATH), columns))
    log_price += SIGMA * torch.randn(sales, generator=generator, dtype=torch.float64)
    for name, share in (("LotFrontage", FRONTAGE_MISSING), ("KitchenQuality", KITCHEN_MISSING)):
        hidden = torch.rand(sales, generator=generator) < share
        columns[name] = ["NA" if hide else cell for hide, cell in zip(hidden.tolist(), columns[name], strict=True)]
    return parse_cells(format_cells(columns | {"SalePrice": _whole(log_price.exp().round())}), PATH)


def _whole(values: Tensor) -> list[str]:
    return [str(int(value)) for value in values.tolist()]
