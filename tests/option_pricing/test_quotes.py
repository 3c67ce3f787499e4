"""Which quotes make a pair."""

import numpy as np

from option_pricing.quotes import Quotes, pair_quotes


def quotes(rows: list[tuple[int, float, bool, float, float, float]]) -> Quotes:
    smile, strike, call, bid, ask, asof = (np.array(column) for column in zip(*rows, strict=True))
    return Quotes(smile, strike, call, bid, ask, asof)


def test_a_pair_is_a_call_and_a_put_of_one_strike_and_smile() -> None:
    pairs = pair_quotes(
        quotes(
            [
                (1, 50.0, False, 2.0, 2.1, 0.0),
                (0, 50.0, True, 1.0, 1.1, 0.0),
                (1, 50.0, True, 3.0, 3.1, 0.0),
                (0, 55.0, False, 4.0, 4.1, 0.0),
            ]
        )
    )
    assert pairs.smile.tolist() == [1]
    assert (pairs.call_bid.tolist(), pairs.put_bid.tolist()) == ([3.0], [2.0])


def test_quotes_more_than_a_minute_apart_are_no_pair() -> None:
    rows = [(0, 50.0, True, 1.0, 1.1, 0.0), (0, 50.0, False, 1.0, 1.1, 60.0)]
    assert pair_quotes(quotes(rows)).strike.size == 1
    assert pair_quotes(quotes(rows), max_skew=59.0).strike.size == 0
    never = [(0, 50.0, True, 1.0, 1.1, np.nan), (0, 50.0, False, 1.0, 1.1, 60.0)]
    assert pair_quotes(quotes(never)).strike.size == 0


def test_no_bid_and_a_crossed_market_are_no_pair() -> None:
    good = (0, 50.0, False, 1.0, 1.1, 0.0)
    for bid, ask in ((0.0, 0.1), (np.nan, 0.1), (-1.0, 0.1), (1.2, 1.1), (1.0, np.nan), (1.0, np.inf)):
        assert pair_quotes(quotes([good, (0, 50.0, True, bid, ask, 0.0)])).strike.size == 0


def test_a_contract_that_is_there_twice_makes_one_pair() -> None:
    call, put = (0, 50.0, True, 1.0, 1.1, 0.0), (0, 50.0, False, 1.0, 1.1, 0.0)
    assert pair_quotes(quotes([call, call, put, put])).strike.tolist() == [50.0]


def test_no_quotes_make_no_pairs() -> None:
    none = np.zeros(0)
    empty = Quotes(none.astype(int), none, none.astype(bool), none, none, none)
    assert pair_quotes(empty).strike.size == 0
