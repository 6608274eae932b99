"""The live decisions on recorded prices: backtest, results, sweep and report.

terms     what the venue charges and where its cliffs are; one run's setting
account   the pockets, exactly, and what the venue does to them
engine    one account through one tape: decides with the live functions, bar by bar or by hold
hold      numpy finds the next bar at which anything could happen
lanes     thousands of accounts at once, in floats; proved equal to `engine`
plans     what decides: registered strategies and frozen baselines
sets      real, mirror, martingale and stress markets
results   the protocol of `make results`
"""
