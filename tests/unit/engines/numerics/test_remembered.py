from prometheus_nt.engines.numerics.remembered import of_same_names


def test_what_follows_from_the_names_is_worked_out_once_for_them():
    asked = []

    @of_same_names
    def count(names):
        asked.append(names)
        return len(names)

    names, others = ("A", "B"), ("C",)

    assert [count(names), count(names), count(others), count(names)] == [2, 2, 1, 2]
    assert asked == [names, others]


def test_equal_names_in_another_object_have_the_same_answer():
    order = of_same_names(lambda names: sorted(names))
    first = order(("B", "A"))

    again = order(tuple(["B", "A"]))

    assert again is first


def test_every_argument_counts():
    joined = of_same_names(lambda names, sectors: names + sectors)
    names = ("A",)

    assert joined(names, ("X",)) == ("A", "X")
    assert joined(names, ("Y",)) == ("A", "Y")
