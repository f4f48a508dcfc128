"""Text for a Decimal, which must be a number as in JSON: no `NaN`, no `1_000`."""

from typing import Any

import msgspec.inspect as nodes

from aiorest_ws.contract.annotations import children
from aiorest_ws.contract.kinds import members_for
from aiorest_ws.contract.spelling import is_decimal

__all__ = ("Decimals",)


class Decimals:
    """The parts of a type that hold a Decimal. False if there is none."""

    def __init__(self, node: nodes.Type) -> None:
        self._node = node
        # By identity: a type may contain itself.
        self._holding: dict[int, bool] = {}
        while self._mark(node):
            pass

    def __bool__(self) -> bool:
        return self._holding[id(self._node)]

    def _mark(self, node: nodes.Type, seen: tuple[int, ...] = ()) -> bool:
        """Mark what holds a Decimal; tell whether that has changed anything."""
        before = self._holding.get(id(node))
        changed = False
        for child in children(node):
            if id(child) not in seen:
                changed = self._mark(child, (*seen, id(node))) or changed
        holds = isinstance(node, nodes.DecimalType)
        holds = holds or any(self._holding.get(id(child), False) for child in children(node))
        self._holding[id(node)] = holds
        return changed or before is not holds

    def fit(self, value: Any) -> bool:
        """Tell whether each text for a Decimal in a value is a number. The rest of it fits."""
        return self._fits(self._node, value)

    def _fits(self, node: Any, value: Any) -> bool:
        if not self._holding.get(id(node), False):
            return True
        if isinstance(node, nodes.Metadata):
            return self._fits(node.type, value)
        if isinstance(node, nodes.UnionType):
            return any(self._fits(member, value) for member in members_for(node, value))
        if isinstance(value, str):
            return is_decimal(value)
        if isinstance(value, dict):
            return self._fit_in_object(node, value)
        if isinstance(value, list):
            return self._fit_in_array(node, value)
        return True

    def _fit_in_object(self, node: Any, value: dict[str, Any]) -> bool:
        if isinstance(node, nodes.DictType):
            return all(
                self._fits(node.key_type, name) and self._fits(node.value_type, item)
                for name, item in value.items()
            )
        return all(
            self._fits(field.type, value[field.encode_name])
            for field in node.fields
            if field.encode_name in value
        )

    def _fit_in_array(self, node: Any, value: list[Any]) -> bool:
        if isinstance(node, nodes.CollectionType):
            return all(self._fits(node.item_type, item) for item in value)
        if isinstance(node, nodes.TupleType):
            item_types = node.item_types
        else:
            item_types = tuple(field.type for field in node.fields)
            value = value[1:] if getattr(node, "tag_field", None) else value
        return all(map(self._fits, item_types, value))
