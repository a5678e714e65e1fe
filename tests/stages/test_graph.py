"""Which stages may begin and which jobs wait: one graph, from stages or from their keys alone."""

from helpers import CNN, MLP, make_stage

from kdsweep.stages.graph import Graph, in_order, nodes

TEACHER, ALONE = make_stage(CNN), make_stage(MLP)
ASSISTANT = make_stage({**MLP, "hidden": [17]}, parents=(TEACHER,))
STUDENT = make_stage(MLP, parents=(ASSISTANT,))
LINKS = in_order({"teacher": TEACHER, "assistant1": ASSISTANT, "student": STUDENT}, {"scratch": ALONE})


def test_the_student_is_trained_last():
    assert list(LINKS) == ["teacher", "assistant1", "scratch", "student"]
    assert list(in_order({"student": ALONE}, {})) == ["student"]


def test_a_stage_is_one_node_whatever_its_roles_and_jobs():
    found = nodes([LINKS, {"teacher": TEACHER, "scratch": ALONE, "student": ALONE}])
    assert [(node.role, node.jobs) for node in found.values()] == [
        ("teacher", [0, 1]),
        ("assistant1", [0]),
        ("scratch", [0, 1]),
        ("student", [0]),
    ]


def test_a_stage_may_begin_once_its_teachers_are_trained_and_nobody_trains_it():
    graph = Graph.of([LINKS])
    assert graph.ready() == [TEACHER.key, ALONE.key]
    graph.begin([TEACHER.key])
    assert graph.ready() == [ALONE.key]
    graph.end([TEACHER.key])
    assert graph.ready() == [ASSISTANT.key, ALONE.key]
    graph.end([ASSISTANT.key, ALONE.key])
    assert graph.ready() == graph.missing() == [STUDENT.key]
    graph.begin([STUDENT.key])
    graph.end([STUDENT.key], trained=False)
    assert graph.ready() == [STUDENT.key]
    graph.end([STUDENT.key])
    assert not graph.missing()


def test_of_jobs_that_share_an_untrained_stage_one_goes_first():
    graph = Graph([["t", "a"], ["t", "b"], ["c"]], trained={"a"})
    assert graph.may_begin(0)
    graph.begin(graph.missing(0))
    assert [graph.may_begin(job) for job in (1, 2)] == [False, True]
    graph.end(graph.missing(0), trained=False)  # it failed: the next may try
    assert graph.may_begin(1)
    graph.begin(graph.missing(1))
    assert not graph.may_begin(0)
    graph.end(graph.missing(1))
    assert graph.may_begin(0) and not graph.missing(0)


def test_what_is_trained_already_keeps_nobody_waiting():
    graph = Graph([["t", "a"], ["t", "b"]], trained={"t"})
    graph.begin(graph.missing(0))
    assert graph.may_begin(1)
