"""What an HTML form sends."""

from urllib.parse import parse_qs

from fastapi import Request

from influcoder.serve.problems import Problem

FIELDS = 100


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, the last value of each.

    Raises:
        Problem: it is no form.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Problem(415, "no_form", "expected a form: application/x-www-form-urlencoded.")
    try:
        text = (await request.body()).decode()
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
    except ValueError as error:
        raise Problem(422, "no_form", "the form cannot be read.") from error
    return {name: values[-1] for name, values in fields.items()}
