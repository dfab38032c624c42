from sentryfw.engine.model import Kind, Packet


def attribute(payload: bytes, packet: Packet, kind: Kind) -> str:
    return "unknown"
