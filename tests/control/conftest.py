from control_harness import empty_gate, gate

__all__ = ["empty_gate", "gate"]
