"""The node in containers: what they shall be, starting and renewing them, and single commands in one."""
