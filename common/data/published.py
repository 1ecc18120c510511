"""Counts and checksums of published data sets, so that a part of a set is not reported under the name of the whole set.

A set is compared by its counts and, if known, by the sha256 of its content. Contents are hashed after reading, so that
compression and line ends do not matter. The hashes here were computed from files with the publishers' checksums.

    mnist                                         the published set
    mnist (partial: 100 of 60,000 train images)   a part of it
    mnist (altered: train labels)                 the same counts, other content
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.data.source import DataCard


@dataclass(frozen=True)
class Release:
    """One published version of a data set."""

    counts: Mapping[str, int]
    """Number of items by name of the part."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Checksum of the content by name of the part."""


def _ratings(ratings: int, users: int, sha256: str | None = None) -> Release:
    return Release({"ratings": ratings, "users": users}, {} if sha256 is None else {"ratings": sha256})


RELEASES: dict[str, tuple[Release, ...]] = {
    "mnist": (
        Release(
            {"train images": 60_000, "test images": 10_000},
            {
                "train images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
                "train labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
                "test images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
                "test labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            },
        ),
    ),
    "fashion-mnist": (
        Release(
            {"train images": 60_000, "test images": 10_000},
            {
                "train labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
                "test labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
            },
        ),
    ),
    "cifar-10": (
        Release(
            {"train images": 50_000, "test images": 10_000},
            {
                "train images": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
                "train labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
                "test images": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
                "test labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
            },
        ),
    ),
    # ml-latest-small changes: the releases of 2018, 2016 (October, January) and 2015 (August, April).
    "ml-latest-small": (
        _ratings(100_836, 610, "25965b6e024ef6119abcdbac1ecab038c2f5a145c7aaafbbe3bbba78c18fe14e"),
        _ratings(100_004, 671),
        _ratings(105_339, 668),
        _ratings(100_234, 718),
        _ratings(100_023, 706),
    ),
    "ml-100k": (_ratings(100_000, 943),),
    "ml-1m": (_ratings(1_000_209, 6_040),),
    "ml-25m": (_ratings(25_000_095, 162_541),),
    "ml-32m": (_ratings(32_000_204, 200_948),),
    "netflix": (_ratings(100_480_507, 480_189),),
    "tiny-shakespeare": (
        Release(
            {"characters": 1_115_394},
            {"characters": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
        ),
    ),
    "wikitext-2": (
        Release(
            {"train characters": 10_780_437, "valid characters": 1_120_192, "test characters": 1_255_018},
            {
                "train characters": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
                "valid characters": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                "test characters": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            },
        ),
    ),
    "bccd": (Release({"train images": 205, "val images": 87, "test images": 72, "boxes": 4_886}),),
    "membranes": (Release({"slices": 30}),),
    "babi": (Release({"train questions": 20_000, "test questions": 20_000}),),
    "etth1": (
        Release({"values": 17_420}, {"values": "3f2bdc80b5c66450c165599d6da09cbe0f336c58eef0888655c1d96b6e066488"}),
    ),
    # The splits of Flickr_8k.{train,dev,test}Images.txt.
    "flickr8k": (Release({"train images": 6_000, "dev images": 1_000, "test images": 1_000}),),
    "glove-6b-50d": (
        Release(
            {"words": 400_000},
            {"words": "5d5f74b8d275407caad13a125d6db79d7011cbea3ead0af458bc69841870c983"},
        ),
    ),
    "multi30k": (
        Release(
            {"train pairs": 29_000, "valid pairs": 1_014, "test pairs": 1_000},
            {
                "train.de": "67aa53ff412b6af1f47c604a623e112e2c28c61519aa7cf8a5348af21722b67a",
                "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
                "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
                "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
                "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
                "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
            },
        ),
    ),
    # The sentences alone, and the sentences and phrases of the GLUE benchmark; both are called SST-2.
    "sst-2": (
        Release(
            {
                "train sentences": 6_920,
                "positive train sentences": 3_610,
                "dev sentences": 872,
                "test sentences": 1_821,
            },
            {
                "train sentences": "4bdc38ba1cf151a802f72b0ba750d22404ad7103b6597b8c39b875a9f28f0b9c",
                "dev sentences": "5a6e516ec8c2ece1c86fe5c2877de566d35cd4b364395382a790c222cfd49915",
                "test sentences": "c204bc7652500e47fab2711fbebdf87f7491ec6aad8a2b806346f7d53f4634e0",
            },
        ),
        Release({"train sentences": 67_349, "dev sentences": 872, "test sentences": 0}),
    ),
}
"""The newest release first."""


def title(name: str, counts: Mapping[str, int], sha256: Mapping[str, str] | None = None) -> str:
    """Return a set's name, followed by the difference if it differs from every release.

    >>> title("ml-100k", {"ratings": 20, "users": 5})
    'ml-100k (partial: 20 of 100,000 ratings)'
    """
    if name not in RELEASES:
        return name
    differences = [_difference(release, counts, sha256 or {}) for release in RELEASES[name]]
    if "" in differences:
        return name
    # Compare with the release that has the same counts, else with the newest one.
    altered = [difference for difference in differences if difference.startswith("altered")]
    return f"{name} ({(altered or differences)[0]})"


def _difference(release: Release, counts: Mapping[str, int], sha256: Mapping[str, str]) -> str:
    for part, published in release.counts.items():
        if counts[part] < published:
            return f"partial: {counts[part]:,} of {published:,} {part}"
    for part, published in release.counts.items():
        if counts[part] > published:
            return f"not as published: {counts[part]:,} instead of {published:,} {part}"
    wrong = [part for part, checksum in release.sha256.items() if sha256[part] != checksum]
    return f"altered: {', '.join(wrong)}" if wrong else ""


def card(
    name: str, sha256: str, description: str, counts: Mapping[str, int], contents: Mapping[str, str] | None = None
) -> DataCard:
    """Build the card of a set read from files: it has the plain name only if the data are as published."""
    shown = title(name, counts, contents)
    return DataCard(shown, False, sha256, description, published="" if shown == name else name)


def own_name(name: str) -> str:
    """Return the name of a user's own file or folder, marked if a published set has the same name."""
    return f"{name} (own file)" if name in RELEASES else name
