"""The leaderboard: attackers x audits x repairs, and which side wins. A new attacker is a line in `attackers.ATTACKERS`."""
