"""How the embedded engine's allocator deals with memory that was freed.

Belongs here: its variables, which it reads once: as its library is loaded, before any session.
Elsewhere: the engine's other settings (headrace.engine.session), the process that loads it before
runs start in forks of it (platform_assets.runtime).
"""

ALLOCATOR = {
    # Sail's allocator keeps what it freed for later: a year's receipts peaked at 1.2 GB instead of
    # 0.6 GB. Giving it back at once has writers of many small files ask for the same memory again
    # and again: a tenth of their CPU. Milliseconds.
    "MIMALLOC_PURGE_DELAY": "10",
    # Giving back parts of huge pages splits them, and getting them again clears 2 MiB at a time:
    # without them a year takes 3 s less of the kernel's time and 400 MB less memory, one more day
    # by a command with everything imported 0.6 s less of that time.
    "MIMALLOC_ALLOW_THP": "0",
}
