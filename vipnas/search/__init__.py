"""Searchers, the search loop, its journal and its workers. No torch."""
