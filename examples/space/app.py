"""The page of ``mer-zoo demo`` as a Hugging Face Space: copy this folder into one."""

from mer_zoo.demo.app import launch
from mer_zoo.demo.looking import Limits

LIMITS = Limits(megabytes=50, seconds=10)  # a Space has two slow cores, and many visitors

if __name__ == "__main__":
    launch(LIMITS, host="0.0.0.0", port=7860).block_thread()  # noqa: S104  # a Space's own door is in front of it
