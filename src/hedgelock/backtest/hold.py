class Quiet:
    def __init__(self, e): pass
def next_bar(q, bar): return bar
