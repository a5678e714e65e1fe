"""How swept values are written, by what the method says of its numbers."""

from kdsweep.results.names import Option, axis_label, is_log, joined, named, options_of, spoken, usual

OPTIONS = {
    "temperature": Option("T", "log"),
    "method.terms.dkd.beta": Option("β"),
}


def test_a_methods_numbers_have_its_signs_and_other_keys_their_names():
    values = {"temperature": 4.0, "method.terms.dkd.beta": 1 / 3, "training.epochs": 2, "seed": 1}
    assert named(values, OPTIONS) == "T=4 β=0.3333 training.epochs=2 seed=1"
    assert named(values, {}).startswith("temperature=4 method.terms.dkd.beta=0.3333")


def test_axes_are_the_methods_or_left_to_the_values():
    assert [is_log(key, OPTIONS) for key in ("temperature", "method.terms.dkd.beta", "training.epochs")] == [
        True,
        False,
        None,
    ]
    assert axis_label("temperature", OPTIONS) == "temperature T"
    assert axis_label("method.terms.dkd.beta", OPTIONS) == "dkd beta β"
    assert axis_label("chain_length", OPTIONS) == "chain length (steps of distillation)"
    assert axis_label("training.epochs", OPTIONS) == "training.epochs"
    assert spoken("training.learning_rate") == "training.learning rate"


def test_options_come_from_the_config_of_a_job():
    told = {"method": {"options": {"temperature": {"sign": "T", "axis": "log"}, "alpha": {"sign": "α"}}}}
    assert options_of(told) == {"temperature": Option("T", "log"), "alpha": Option("α")}
    assert options_of({}) == {}
    both = joined([options_of(told), OPTIONS])
    assert usual(both)[-1] == "chain_length" and both.keys() == {*OPTIONS, "alpha"}
