"""Everything that can be called: the one table, a part from each noun's module."""

from gateway.control import (
    asking,
    audit,
    callers,
    callers_bulk,
    directives,
    drift,
    enforcement,
    groups,
    holds,
    models,
    operators,
    orders,
    orgs,
    probes,
    review,
    terms,
)
from gateway.control.routing import Route

ROUTES: tuple[Route, ...] = (
    *probes.ROUTES,
    *models.ROUTES,
    *drift.ROUTES,
    *holds.ROUTES,
    *orders.ROUTES,
    *directives.ROUTES,
    *terms.ROUTES,
    *groups.ROUTES,
    *orgs.ROUTES,
    *review.ROUTES,
    *asking.ROUTES,
    *callers.ROUTES,
    *callers_bulk.ROUTES,
    *operators.ROUTES,
    *enforcement.ROUTES,
    *audit.ROUTES,
)
