"""The API's description: what it says is what the service does, for bodies and queries drawn at random from it."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
FEW = settings(max_examples=2, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))


def test_it_does_what_its_description_says(served):
    schema = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @FEW
        @given(case=operation.as_strategy())
        def does_what_it_says(case):
            case.call_and_validate(checks=CHECKS, timeout=60)

        does_what_it_says()


def test_every_operation_is_described_with_its_problems(served):
    told = served.get("openapi.json").json()
    for path, methods in told["paths"].items():
        for operation in methods.values():
            assert operation["description"]
            if path.startswith("/api/"):
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])


def test_examples_of_the_description_are_answered(served):
    schemas = served.get("openapi.json").json()["components"]["schemas"]
    asked = {"search": "SearchRequest", "score": "ScoreRequest", "question": "Question", "selections": "SelectRequest"}
    for path, name in asked.items():
        answer = served.post(path, schemas[name]["examples"][0])
        assert answer.status_code in (200, 201), answer.text
