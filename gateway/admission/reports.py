"""How the state of the shared store gets into log and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.admission.store import Losses, StoreFailure, StoreListener
from gateway.telemetry.logs import Logger
from gateway.telemetry.metrics import Metrics

MOST_KEYS = 10  # in one log line


class StoreReports:
    """Logs and counts what the store's listener gets."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics

    def listener(self, give_way: Callable[[Callable[[], None]], None]) -> StoreListener:
        """The listener. `give_way`: its `conversation_lost`."""
        return StoreListener(
            failed=self._failed,
            changed=self._changed,
            took=self._metrics.limit_store_seconds.observe,
            lost=self._lost,
            conversation_lost=give_way,
            key_replaced=self._key_replaced,
            key_broken=self._key_broken,
        )

    def _failed(self, kind: StoreFailure) -> None:
        self._metrics.limit_store_errors.labels(kind).inc()

    def _changed(self, is_up: bool, why: str) -> None:  # noqa: FBT001 - as `StoreListener` has it
        if is_up:
            self._logger.info("limit_store_up")
        else:
            self._logger.error("limit_store_down", reason=why)

    def _lost(self, losses: Losses) -> None:
        self._logger.warning(
            "leases_lost",
            slots=losses.slots,
            locks=losses.locks,
            conversations=losses.conversations,
            message="this process stood still for longer than a lease, or the store lost data: slots and locks were"
            " taken again; answers whose conversation another process has by now were ended",
        )

    def _key_replaced(self, key: str, kind: str) -> None:
        message = "the key held a value of another type: it was deleted, and its limit counts from zero"
        self._logger.warning("limit_key_replaced", key=key, type=kind, message=message)

    def _key_broken(self, keys: Sequence[str]) -> None:
        message = (
            "one of these keys holds a value of another type and cannot be deleted: delete it in the store"
        )
        self._logger.error("limit_key_broken", keys=list(keys[:MOST_KEYS]), message=message)
