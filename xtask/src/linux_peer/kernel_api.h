/*
 * Just enough of the kernel's programming interface for lib/maple_tree.c to compile and run in one
 * thread of a user process. Written for this purpose from what the interface is documented to do;
 * every header that the tree includes is generated as one line that includes this file.
 *
 * Differences that matter for times: a slab object comes from an intrusive last-in-first-out list
 * (peer_slab.c) without a lock; read sections are empty, as in a kernel that is not preempted; RCU
 * callbacks wait in a list until peer_rcu_run() runs them.
 */
#ifndef PEER_KERNEL_API_H
#define PEER_KERNEL_API_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_64BIT 1
#define BITS_PER_LONG 64

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;

/* What only checkers of the kernel's sources look at. */
#define __rcu
#define __must_hold(lock)
#define __init
#define __must_check __attribute__((warn_unused_result))
#define EXPORT_SYMBOL(name)
#define EXPORT_SYMBOL_GPL(name)
#define noinline __attribute__((noinline))
#define noinline_for_stack noinline
#define __cold __attribute__((cold))
#define fallthrough __attribute__((fallthrough))
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __maybe_unused __attribute__((unused))

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

#define container_of(pointer, type, member) \
	((type *)((char *)(pointer) - offsetof(type, member)))

#define min(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ > b_ ? a_ : b_; })
#define min_t(type, a, b) min((type)(a), (type)(b))
#define max_t(type, a, b) max((type)(a), (type)(b))
#define swap(a, b) do { __typeof__(a) swapped_ = (a); (a) = (b); (b) = swapped_; } while (0)
#define DIV_ROUND_UP(a, b) (((a) + (b) - 1) / (b))
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* A broken promise ends the process: a benchmark of a broken tree is worth nothing. */
static inline bool peer_check(bool broken, const char *file, int line)
{
	if (unlikely(broken)) {
		fprintf(stderr, "%s:%d: a check in the tree failed\n", file, line);
		abort();
	}
	return broken;
}
#define WARN_ON(condition) peer_check(!!(condition), __FILE__, __LINE__)
#define WARN_ON_ONCE(condition) WARN_ON(condition)
#define WARN(condition, ...) WARN_ON(condition)
#define VM_WARN_ON_ONCE(condition) WARN_ON(condition)
#define BUG_ON(condition) ((void)WARN_ON(condition))
#define BUG() BUG_ON(true)
#define BUILD_BUG_ON(condition) _Static_assert(!(condition), #condition)
#define pr_err(...) fprintf(stderr, __VA_ARGS__)
#define pr_info(...) fprintf(stderr, __VA_ARGS__)

#define READ_ONCE(place) (*(const volatile __typeof__(place) *)&(place))
#define WRITE_ONCE(place, value) (*(volatile __typeof__(place) *)&(place) = (value))
/* x86-64 keeps the order of loads, and of stores: the compiler is all that has to be held. */
#define barrier() __asm__ volatile("" ::: "memory")
#define smp_rmb() barrier()
#define smp_wmb() barrier()
#define smp_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define prefetch(address) __builtin_prefetch(address)
#define prefetchw(address) __builtin_prefetch(address, 1)

/* RCU. */
struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
};
#define rcu_head_init(head) ((void)(head))
#define rcu_read_lock() barrier()
#define rcu_read_unlock() barrier()
#define rcu_read_lock_held() true
#define rcu_dereference(place) READ_ONCE(place)
#define rcu_dereference_check(place, held) READ_ONCE(place)
#define rcu_dereference_protected(place, held) (place)
#define rcu_dereference_raw(place) READ_ONCE(place)
#define rcu_access_pointer(place) READ_ONCE(place)
#define RCU_INIT_POINTER(place, value) WRITE_ONCE(place, value)
#define rcu_assign_pointer(place, value) \
	__atomic_store_n(&(place), (__typeof__(place))(value), __ATOMIC_RELEASE)
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void peer_rcu_run(unsigned long at_least);

/* Spin locks: one atomic exchange to take, one store to give back. */
typedef struct { char taken; } spinlock_t;
#define __SPIN_LOCK_UNLOCKED(name) { 0 }
#define SINGLE_DEPTH_NESTING 1
static inline void spin_lock_init(spinlock_t *lock) { lock->taken = 0; }
static inline void spin_lock(spinlock_t *lock)
{
	while (unlikely(__atomic_exchange_n(&lock->taken, 1, __ATOMIC_ACQUIRE)))
		__builtin_ia32_pause();
}
static inline void spin_unlock(spinlock_t *lock)
{
	__atomic_store_n(&lock->taken, 0, __ATOMIC_RELEASE);
}
#define spin_lock_nested(lock, subclass) spin_lock(lock)
#define spin_lock_irqsave(lock, flags) ((void)(flags), spin_lock(lock))
#define spin_unlock_irqrestore(lock, flags) ((void)(flags), spin_unlock(lock))
#define lockdep_is_held(lock) true
#define lock_is_held(map) true
#define lockdep_assert_held(lock) ((void)0)

/* Memory. */
#define GFP_KERNEL 1u
#define GFP_NOWAIT 2u
#define GFP_ATOMIC 4u
#define __GFP_ZERO 8u
#define __GFP_NOWARN 16u
#define __GFP_NOFAIL 32u
#define SLAB_PANIC 0u
#define SLAB_TYPESAFE_BY_RCU 0u
#define gfpflags_allow_blocking(gfp) (((gfp) & GFP_KERNEL) != 0)
#define might_alloc(gfp) ((void)(gfp))
struct kmem_cache;
struct kmem_cache *kmem_cache_create(const char *name, unsigned int size, unsigned int align,
				     unsigned long flags, void (*constructor)(void *));
void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp);
int kmem_cache_alloc_bulk(struct kmem_cache *cache, gfp_t gfp, size_t count, void **objects);
void kmem_cache_free(struct kmem_cache *cache, void *object);
void kmem_cache_free_bulk(struct kmem_cache *cache, size_t count, void **objects);
unsigned long peer_slab_bytes(void);
void peer_slab_renew(void);

/*
 * Words that stand for something: a pointer is a multiple of four, an odd word is a number, and one
 * that is two more than a multiple of four is the data structure's own, below 4096 reserved.
 */
static inline bool xa_is_value(const void *word) { return (uintptr_t)word & 1; }
static inline unsigned long xa_to_value(const void *word) { return (uintptr_t)word >> 1; }
static inline void *xa_mk_value(unsigned long value) { return (void *)(value << 1 | 1); }
static inline bool xa_is_internal(const void *word) { return ((uintptr_t)word & 3) == 2; }
static inline unsigned long xa_to_internal(const void *word) { return (uintptr_t)word >> 2; }
static inline void *xa_mk_internal(unsigned long value) { return (void *)(value << 2 | 2); }
#define XA_RETRY_ENTRY xa_mk_internal(256)
#define XA_ZERO_ENTRY xa_mk_internal(257)
static inline bool xa_is_zero(const void *word) { return word == XA_ZERO_ENTRY; }
static inline bool xa_is_node(const void *word)
{
	return xa_is_internal(word) && (uintptr_t)word > 4096;
}
/* Not to be stored by users: internal, up to the word for "try again". */
static inline bool xa_is_advanced(const void *word)
{
	return xa_is_internal(word) && word <= XA_RETRY_ENTRY;
}
/* Small negative numbers, shifted and marked as internal, are errors. */
static inline bool xa_is_err(const void *word)
{
	return xa_is_internal(word) && (intptr_t)word < 0 && (intptr_t)word >= -4095 * 4L;
}
static inline int xa_err(void *word)
{
	return xa_is_err(word) ? (int)((intptr_t)word >> 2) : 0;
}

/* Tracing is off. */
#define tracepoint_string(text) (text)
#define trace_ma_op(...) ((void)0)
#define trace_ma_read(...) ((void)0)
#define trace_ma_write(...) ((void)0)

#endif
