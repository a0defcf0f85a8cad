"""Searchers, the search loop, its journal and workers. No torch."""
