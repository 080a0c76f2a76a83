from __future__ import annotations

from gateway.flowise.content_budget import ContentBudget


def test_what_does_not_fit_is_refused_whole_and_what_is_given_back_fits_again():
    budget = ContentBudget(10)
    assert budget.take(7)
    assert not budget.take(4)
    assert budget.used == 7
    assert budget.take(3)
    budget.give(7)
    assert budget.take(7)
    assert budget.used == 10


def test_without_a_limit_everything_fits():
    assert ContentBudget().take(2**60)
