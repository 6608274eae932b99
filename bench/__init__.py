"""`python -m bench [names...]`: speed and memory against their bars, into `bench/results.json`.

Every bar is a ratio or a limit of one run on one machine; floors are measured in the same run.
    figures    a figure, its bar, the table, the JSON        processes  children, ports, readiness
    floors     what any stack would need                     market     a script that makes orders
    latency    exchange event → order, on both buses         chain      the decision, JSON to JSON
    startup    exec → ready                                  memory     `hedgelock run`'s PSS
"""
