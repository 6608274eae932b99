"""Scenario files: the ones in this repository, and what is said about a wrong one."""

from decimal import Decimal as D
from pathlib import Path

import pytest

from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.script import BadScript, read_script
from hedgelock.simulator.venue import Venue

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_file_is_readable(path):
    """It says what it shows and where it comes from, and demands at least two things."""
    script = read_script(path)
    assert script.summary
    assert script.source
    assert len(script.checks) >= 2
    assert script.scenario.duration_s > 0
    assert script.healed_s < script.scenario.duration_s, "what is broken heals before the end"


def test_the_25_field_lessons_are_here():
    """One file each, numbered as in the collection of field lessons."""
    assert [path.name[:2] for path in FILES] == [f"{number:02}" for number in range(1, 26)]


SMALL = """
summary = "two accounts of our own"
source = "nowhere"
seed = 7
[market]
base = "crash"
noise_bps = 0
prices.BTC = [[0, 50000], [30, 40000]]
[[account]]
key = "a"
unified = { USDT = "10.5" }
debt = { USDT = "1000" }
[[account]]
key = "b"
secret = "s"
read_only = true
ips = ["10.0.0.1"]
limits_factor = 3
[[deed]]
at_s = 3
kind = "price_gap"
coin = "BTC"
amount = "-0.2"
[[fault]]
kind = "cut"
until_s = 12
[[kill]]
at_s = 2
back_s = 20
[[check]]
kind = "unliquidated"
"""


def written(folder, text):
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_a_file_says_is_what_is_played(tmp_path):
    script = read_script(written(tmp_path, SMALL))
    assert (script.name, script.seed, script.healed_s) == ("small", 7, 20)
    scenario = script.scenario
    assert scenario.prices["BTC"] == ((0, 50000), (30, 40000))
    assert scenario.prices["ETH"] == SCENARIOS["crash"].prices["ETH"]
    assert (scenario.duration_s, scenario.noise_bps, scenario.deeds[0].amount) == (30, 0, D("-0.2"))
    first, second = scenario.accounts
    assert (first.secret, first.unified, first.debt) == ("a", {"USDT": D("10.5")}, {"USDT": D(1000)})
    assert (second.terms.read_only, second.terms.ips) == (True, ("10.0.0.1",))
    assert second.terms.limits_factor == 3
    assert first.terms.permissions["ContractTrade"] == ("Order", "Position")
    venue = Venue(scenario, now_ms=0, seed=script.seed)
    assert venue.exchange.market.index["BTC"] == 50000
    assert not script.plan().quiet


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("summary", "sumary", r"small.toml:.*unknown field `sumary`.*\nsummary ="),
        ("until_s = 12", "until = 12", r"small.toml: \[fault\] 1: .*unknown field `until`"),
        ("until_s = 12", 'until_s = "x"', r"\[fault\] 1: until_s: Expected `float`, got `str`"),
        ('kind = "cut"', 'kind = "hut"', r"\[fault\] 1: kind 'hut' is unknown: choose one of ans"),
        ('kind = "unliquidated"', 'kind = "ltv_max"', r"\[check\] 1: ltv_max needs value.*\n\[\[ch"),
        ('kind = "unliquidated"', 'kind = "rich"', r"\[check\] 1: kind 'rich' is unknown"),
        ('kind = "unliquidated"', 'kind = "unliquidated"\nvalue = 1', r"unliquidated takes no value"),
        ('kind = "unliquidated"', 'kind = "orders_between"', r"needs least, most or both"),
        ('kind = "unliquidated"', 'kind = "no_opening_orders"\nfrom_s = 5\nuntil_s = 4', r"from_s 5"),
        ('"price_gap"', '"quake"', r"\[deed\] 1: deed kind 'quake' is unknown"),
        ('amount = "-0.2"', 'amount = "much"', r"\[deed\] 1: deed amount 'much' is no number"),
        ('"10.5"', "10.5", r"\[account\] 1: unified.*: Expected `str`, got `float`"),
        ('"10.5"', '"-1"', r"\[account\] 1: unified USDT '-1' is no amount"),
        ('"crash"', '"splash"', r"\[market\]: base 'splash' is unknown: choose one of calm"),
        ("[30, 40000]", "[0, 40000]", r"\[market\]: BTC: corner times must rise"),
        ("[30, 40000]", "[30, 0]", r"\[market\]: a price is not above 0"),
        ("at_s = 2\n", "", r"\[kill\] 1: .*missing required field `at_s`"),
        ("[market]", "[market", r"cannot be read: "),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_place_problem_and_example(tmp_path, old, new, words):
    with pytest.raises(BadScript, match=f"(?s){words}") as error:
        read_script(written(tmp_path, SMALL.replace(old, new, 1)))
    assert "for example\n" in str(error.value)


def test_a_market_from_a_generator_or_from_files(tmp_path):
    """A model with its seed, or recorded prices beside the scenario file."""
    drawn = read_script(written(tmp_path, 'summary = "x"\nseed = 3\n[market]\ngenerator = "still"'))
    assert drawn.scenario.duration_s == 86_400
    rows = "\n".join(f"{n * 60_000}" + f",{50_000 + n}" * 4 for n in range(10))
    (tmp_path / "btc.csv").write_text(f"ts,open,high,low,close\n{rows}\n")
    text = 'summary = "x"\n[market]\nreplay.BTC = { prices = "btc.csv" }'
    venue = Venue(read_script(written(tmp_path, text)).scenario, now_ms=0)
    assert venue.exchange.market.index["BTC"] == 50_000
    for wrong, words in (
        ('generator = "volcano"', "no model 'volcano'"),
        ('generator = "still"\nbase = "calm"', "exclude each other"),
        ('replay.BTC = { prices = "none.csv" }', r"none\.csv"),
    ):
        with pytest.raises(BadScript, match=rf"\[market\]: .*{words}"):
            read_script(written(tmp_path, f'summary = "x"\n[market]\n{wrong}'))


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(BadScript, match=r"none\.toml: cannot be read"):
        read_script(tmp_path / "none.toml")
