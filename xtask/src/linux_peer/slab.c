/* Objects of 256 bytes in chunks of a mebibyte, and callbacks that wait for a grace period. */
#include "kernel_api.h"

enum { OBJECT = 256, CHUNK = 1 << 20 };

struct kmem_cache {
	char nothing;
};

struct free_object {
	struct free_object *next;
};

static struct kmem_cache only_cache;
/* Freed last, handed out first. */
static struct free_object *freed;
/* What was never handed out of the chunk in use, in the order of addresses. */
static char *fresh;
static char *fresh_end;
static char **chunks;
static size_t chunks_count;
static size_t chunks_used;
static unsigned long objects_out;

static struct rcu_head *callbacks;
static struct rcu_head **callbacks_end = &callbacks;
static unsigned long callbacks_waiting;

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size, unsigned int align,
				     unsigned long flags, void (*constructor)(void *))
{
	(void)name;
	(void)flags;
	WARN_ON(size != OBJECT || align > OBJECT || constructor != NULL);
	return &only_cache;
}

/* Goes on to the next chunk, a new one if all have been in use. */
static bool next_chunk(void)
{
	if (chunks_used == chunks_count) {
		char **longer = realloc(chunks, (chunks_count + 1) * sizeof(*chunks));
		char *chunk;

		if (!longer)
			return false;
		chunks = longer;
		chunk = aligned_alloc(CHUNK, CHUNK);
		if (!chunk)
			return false;
		chunks[chunks_count++] = chunk;
	}
	fresh = chunks[chunks_used++];
	fresh_end = fresh + CHUNK;
	return true;
}

/* A heap as good as new, if nothing of it is in use: what one tree left does not age the next. */
void peer_slab_renew(void)
{
	if (objects_out)
		return;
	freed = NULL;
	fresh = NULL;
	fresh_end = NULL;
	chunks_used = 0;
}

void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp)
{
	void *object = freed;

	(void)cache;
	if (likely(object)) {
		freed = freed->next;
	} else {
		if (unlikely(fresh == fresh_end) && !next_chunk())
			return NULL;
		object = fresh;
		fresh += OBJECT;
	}
	objects_out++;
	if (gfp & __GFP_ZERO)
		memset(object, 0, OBJECT);
	return object;
}

int kmem_cache_alloc_bulk(struct kmem_cache *cache, gfp_t gfp, size_t count, void **objects)
{
	for (size_t i = 0; i < count; i++) {
		objects[i] = kmem_cache_alloc(cache, gfp);
		if (!objects[i]) {
			kmem_cache_free_bulk(cache, i, objects);
			return 0;
		}
	}
	return (int)count;
}

void kmem_cache_free(struct kmem_cache *cache, void *object)
{
	struct free_object *link = object;

	(void)cache;
	link->next = freed;
	freed = link;
	objects_out--;
}

void kmem_cache_free_bulk(struct kmem_cache *cache, size_t count, void **objects)
{
	for (size_t i = 0; i < count; i++)
		kmem_cache_free(cache, objects[i]);
}

unsigned long peer_slab_bytes(void)
{
	return objects_out * OBJECT;
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next = NULL;
	*callbacks_end = head;
	callbacks_end = &head->next;
	callbacks_waiting++;
}

/* A grace period ends: runs all callbacks, if there are so many of them. */
void peer_rcu_run(unsigned long at_least)
{
	struct rcu_head *head = callbacks;

	if (callbacks_waiting < at_least || !head)
		return;
	callbacks = NULL;
	callbacks_end = &callbacks;
	callbacks_waiting = 0;
	while (head) {
		struct rcu_head *next = head->next;

		head->func(head);
		head = next;
	}
}
