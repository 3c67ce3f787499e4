"""The file of interest rates: what it says, what it refuses, and that what ships is true."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from ingest.csv_files import WrongLine
from ingest.errors import UsageError
from ingest.rates import RateCurve, curve_of, read_rates

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "rates.csv"
HEADER = "date,tenor_days,rate,source\n"


def written(folder: Path, *lines: str) -> Path:
    file = folder / "rates.csv"
    file.write_text(HEADER + "".join(line + "\n" for line in lines))
    return file


def test_the_curve_of_a_date_is_the_latest_up_to_it(tmp_path: Path) -> None:
    file = written(tmp_path, "2021-05-03,91,0.02,b", "2021-04-01,91,0.01,a", "2021-04-01,30,0.005,a")
    curves = read_rates(file)
    assert [curve.day for curve in curves] == [date(2021, 4, 1), date(2021, 5, 3)]
    assert curve_of(curves, date(2021, 5, 2)) == RateCurve(date(2021, 4, 1), (30.0, 91.0), (0.005, 0.01))
    assert curve_of(curves, date(2021, 5, 3)).rate == (0.02,)


def test_rates_are_linear_between_tenors_and_level_beyond() -> None:
    curve = RateCurve(date(2021, 4, 1), (30.0, 90.0), (0.01, 0.04))
    days = np.array([0.0, 30.0, 50.0, 90.0, 700.0])
    np.testing.assert_allclose(curve.rate_at(days), [0.01, 0.01, 0.02, 0.04, 0.04])


def test_a_curve_goes_stale_after_thirty_days() -> None:
    curve = RateCurve(date(2021, 4, 1), (30.0,), (0.01,))
    assert not curve.stale(date(2021, 5, 1))
    assert curve.stale(date(2021, 5, 2))


def test_a_date_before_the_file_is_refused_with_what_it_has(tmp_path: Path) -> None:
    curves = read_rates(written(tmp_path, "2021-04-01,91,0.01,a"))
    with pytest.raises(
        UsageError, match=r"up to 2021-03-31: the file that reference\.rates names begins on 2021-04-01"
    ):
        curve_of(curves, date(2021, 3, 31))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("2021-4-1,91,0.01,a", "is no date like"),
        ("2021-02-30,91,0.01,a", "is no date like"),
        ("2021-04-01,91.5,0.01,a", "no whole number of days"),
        ("2021-04-01,0,0.01,a", "no whole number of days"),
        ("2021-04-01,-30,0.01,a", "no whole number of days"),
        ("2021-04-01,91,4.41,a", "4.41 % is written 0.0441"),
        ("2021-04-01,91,nan,a", "4.41 % is written 0.0441"),
        ("2021-04-01,91,1e999,a", "4.41 % is written 0.0441"),
        ("2021-04-01,91,,a", "4.41 % is written 0.0441"),
        ("2021-04-01,91,0.01", "has not 4 fields"),
    ],
)
def test_a_line_that_cannot_be_right_is_named(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(WrongLine, match=problem) as refused:
        read_rates(written(tmp_path, "2021-03-01,91,0.01,a", line))
    assert refused.value.line == 3


def test_two_rates_of_one_tenor_are_refused_and_a_repeated_line_is_not(tmp_path: Path) -> None:
    repeated = written(tmp_path, "2021-04-01,91,0.01,a", "2021-04-01,91,0.010,b")
    assert read_rates(repeated)[0].rate == (0.01,)
    with pytest.raises(WrongLine, match="another rate for 91 days on 2021-04-01"):
        read_rates(written(tmp_path, "2021-04-01,91,0.01,a", "2021-04-01,91,0.02,b"))


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no rates.*reference\.rates"):
        read_rates(written(tmp_path))
    with pytest.raises(UsageError, match=r"cannot be read.*reference\.rates"):
        read_rates(tmp_path / "nowhere.csv")


def test_negative_rates_are_rates(tmp_path: Path) -> None:
    assert read_rates(written(tmp_path, "2020-03-25,30,-0.0005,a"))[0].rate == (-0.0005,)


def test_what_ships_is_never_stale_from_its_first_to_its_last_date() -> None:
    curves = read_rates(SHIPPED)
    assert (curves[0].day, curves[-1].day) == (date(2014, 1, 2), date(2026, 8, 28))
    day = curves[0].day
    while day <= curves[-1].day:
        assert not curve_of(curves, day).stale(day), day
        day += timedelta(days=1)


@pytest.mark.parametrize(
    ("day", "tenor", "percent"),
    [
        # By copies of the Treasury's yearly files and of FRED's series DGS1MO, DGS3MO, DGS1 and DGS2, read in 2026.
        (date(2019, 1, 2), 91, 2.42),
        (date(2020, 4, 1), 91, 0.09),
        (date(2021, 4, 16), 91, 0.02),
        (date(2023, 10, 2), 91, 5.62),
        (date(2025, 1, 2), 365, 4.17),
        (date(2025, 1, 2), 30, 4.45),
        (date(2026, 3, 2), 730, 3.47),
    ],
)
def test_what_ships_is_what_the_treasury_published(day: date, tenor: int, percent: float) -> None:
    """Par yields are bond equivalents: compounded twice a year."""
    curve = curve_of(read_rates(SHIPPED), day)
    assert curve.day == day
    continuous = 2.0 * np.log1p(percent / 200.0)
    assert curve.rate_at(np.array([float(tenor)]))[0] == pytest.approx(continuous, abs=1e-6)


def test_each_shipped_rate_is_the_continuous_one_of_the_yield_that_its_source_tells() -> None:
    for line in SHIPPED.read_text().splitlines()[1:]:
        _, _, rate, source = line.split(",")
        percent = float(source.removesuffix(" %").rsplit(" ", 1)[1])
        assert float(rate) == pytest.approx(2.0 * np.log1p(percent / 200.0), abs=1e-6), line
