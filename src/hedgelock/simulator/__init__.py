"""The exchange simulator: Bybit v5's shapes over REST and WebSocket, or in process.

`venue.py` is the exchange itself, without I/O; `server.py` carries it over sockets.
"""
