"""Search of Chinese pages: a text is split into single characters and pairs of them, so no dictionary is needed.

A query of several characters finds the pages that contain all its pairs. Latin words are handled as on English pages.
"""

import re

from sphinx.search import SearchLanguage
from sphinx.search.en import SearchEnglish

WORDS = re.compile(r"[\u3400-\u9fff]+|[^\W_\u3400-\u9fff]+(?:_[^\W_\u3400-\u9fff]+)*")

SPLIT_QUERY = r"""
function splitQuery(query) {
  const words = query.match(/[\u3400-\u9fff]+|(?:(?![\u3400-\u9fff])[\p{L}\p{N}_])+/gu) || [];
  return words.flatMap((word) => {
    if (!/[\u3400-\u9fff]/.test(word) || word.length === 1) return [word];
    return Array.from({ length: word.length - 1 }, (_, place) => word.slice(place, place + 2));
  });
}
"""


class SearchChinesePairs(SearchEnglish):
    """Characters and pairs of characters as words."""

    lang = "zh"
    language_name = "English"  # of the stemmer in JavaScript, which is for the Latin words
    js_splitter_code = SPLIT_QUERY

    def split(self, input: str) -> list[str]:  # noqa: A002
        """Split a text into Latin words, Chinese characters and pairs of characters."""
        words: list[str] = []
        for word in WORDS.findall(input):
            if "\u3400" <= word[0] <= "\u9fff":
                words += [*word, *(word[place : place + 2] for place in range(len(word) - 1))]
            else:
                words.append(word)
        return words

    def word_filter(self, stemmed_word: str) -> bool:
        """Keep Chinese words of any length."""
        if stemmed_word[:1] >= "\u3400":
            return True
        return SearchLanguage.word_filter(self, stemmed_word)
