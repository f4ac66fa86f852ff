"""Guessed values in the store: those of an attribute are replaced together, others stay, on either database."""

from __future__ import annotations

import polars as pl
import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from recsys.db.engine import fetch_rows
from recsys.store import predicted_attributes as predictions
from recsys.store.store import Store

ALL = "SELECT product_id, attribute, value, confidence FROM predicted_attributes ORDER BY 1, 2"


def _guesses(*told: tuple[str, str, str, float], version: str = "m1") -> pl.DataFrame:
    return pl.DataFrame([(*one, version) for one in told], schema=predictions.PREDICTION_SCHEMA, orient="row")


def _replace(store: Store, guesses: pl.DataFrame, attributes: list[str]) -> int:
    with store.engine.begin() as connection:
        return predictions.replace_predictions(connection, store.dialect, guesses, attributes=attributes)


def test_guesses_of_the_attributes_asked_about_are_replaced(store: Store) -> None:
    first = _guesses(("a", "colour", "Röd | 红", 0.9), ("a", "brand", "Aro", 0.6), ("0b", "colour", "blue", 0.5))
    assert _replace(store, first, ["brand", "colour"]) == 3
    assert fetch_rows(store.engine, ALL, {}) == [
        ("0b", "colour", "blue", 0.5),
        ("a", "brand", "Aro", 0.6),
        ("a", "colour", "Röd | 红", 0.9),
    ]
    assert _replace(store, _guesses(("a", "colour", "green", 0.7), version="m2"), ["colour"]) == 1
    assert fetch_rows(store.engine, ALL, {}) == [("a", "brand", "Aro", 0.6), ("a", "colour", "green", 0.7)]
    assert _replace(store, _guesses(), ["brand"]) == 0
    assert fetch_rows(store.engine, ALL, {}) == [("a", "colour", "green", 0.7)]
    assert _replace(store, _guesses(), ["colour"]) == 0
    assert fetch_rows(store.engine, ALL, {}) == []


def test_what_other_models_guessed_goes_when_asked(store: Store) -> None:
    _replace(store, _guesses(("a", "gone", "x", 0.9)), ["gone"])
    _replace(store, _guesses(("a", "class", "y", 0.9), version="m2"), ["class"])
    with store.engine.begin() as connection:
        new = _guesses(("a", "colour", "green", 0.7), version="m2")
        predictions.replace_predictions(connection, store.dialect, new, attributes=["colour"], model_version="m2")
    assert fetch_rows(store.engine, ALL, {}) == [("a", "class", "y", 0.9), ("a", "colour", "green", 0.7)]


def test_guesses_that_cannot_be_written_leave_the_old_ones(store: Store) -> None:
    _replace(store, _guesses(("a", "colour", "blue", 0.5)), ["colour"])
    twice = _guesses(("a", "colour", "red", 0.5), ("a", "colour", "green", 0.5))
    with pytest.raises((sa.exc.IntegrityError, psycopg.errors.UniqueViolation, pymysql.err.IntegrityError)):
        _replace(store, twice, ["colour"])
    assert fetch_rows(store.engine, ALL, {}) == [("a", "colour", "blue", 0.5)]
