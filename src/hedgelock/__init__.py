"""HedgeLock keeps a crypto-collateralised account alive and its hedges cheap."""

__version__ = "0.1.0"
