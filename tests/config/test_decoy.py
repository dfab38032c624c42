"""[decoy]: which ports answer."""

from sentryfw.config.decoy import Decoy


def test_udp_ports_answer_with_a_banner_only() -> None:
    silent = Decoy.model_validate({"udp": [69, "161-162"]})
    assert not silent.wanted
    assert silent.answered == frozenset()
    loud = silent.model_copy(update={"banner": "hello"})
    assert loud.wanted
    assert loud.answered == {69, 161, 162}


def test_tcp_ports_are_ranges() -> None:
    decoy = Decoy.model_validate({"tcp": [23, "2222-2224"]})
    assert decoy.wanted
    assert decoy.tcp_ports == {23, 2222, 2223, 2224}
