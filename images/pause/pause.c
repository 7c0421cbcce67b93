/*
 * The process that holds a pod's namespaces open. It sleeps until a signal
 * comes: SIGTERM and SIGINT end it, SIGCHLD makes it reap, because in a pod with
 * one shared PID namespace it is PID 1 and orphans become its children.
 *
 * Every pod pays for one of these, so on the common machines it goes without a
 * C library: a few pages in all instead of some hundred kilobytes.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if defined(__x86_64__)
static long call(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return n;
}
#elif defined(__aarch64__)
static long call(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "pause.c knows the system call of x86_64 and aarch64 only"
#endif

void _start(void)
{
	unsigned long set = ~0UL; /* the kernel's signal set: 64 bits */

	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof set);
	for (;;) {
		long sig = call(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof set);

		if (sig == SIGTERM || sig == SIGINT)
			call(SYS_exit_group, 0, 0, 0, 0);
		while (sig == SIGCHLD && call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
