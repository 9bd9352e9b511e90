SMOOTH: int
