"""Everything that can be called: the one table, a part from each noun's module."""

from gateway.control import callers, enforcement, holds, models, operators, orders, probes
from gateway.control.routing import Route

ROUTES: tuple[Route, ...] = (
    *probes.ROUTES,
    *models.ROUTES,
    *holds.ROUTES,
    *orders.ROUTES,
    *callers.ROUTES,
    *operators.ROUTES,
    *enforcement.ROUTES,
)
