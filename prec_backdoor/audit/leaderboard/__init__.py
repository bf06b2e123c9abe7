"""The leaderboard: attackers x audits x repairs, which side wins where. A new attacker is a line in ATTACKERS."""

from prec_backdoor.audit.leaderboard.attackers import ATTACKERS, Attacker
from prec_backdoor.audit.leaderboard.contest import run_contest

__all__ = ["ATTACKERS", "Attacker", "run_contest"]
