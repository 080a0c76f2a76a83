"""Routes for tests of bodies, with the keys that decide about bodies."""

from __future__ import annotations

from gateway.config.route import BodySettings, ConversationSettings, OverrideSettings, RouteKeys


def body_rules(
    *, overrides=("sessionId",), legacy=(), unknown="pass", bind=False, max_question=100, max_word=50, **keys
):
    return RouteKeys.model_construct(
        max_question=max_question,
        max_word=max_word,
        override_config=OverrideSettings.model_construct(allow=frozenset(overrides)),
        body=BodySettings.model_construct(allow=frozenset(legacy), unknown=unknown),
        conversations=ConversationSettings.model_construct(bind=bind),
        **keys,
    )
