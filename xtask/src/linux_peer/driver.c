/*
 * Linux's tree as a library for `peers --c-lib`: each function does a whole loop of work.
 *
 * `benches/peers/src/linux/library.rs` declares the same functions; a change to a signature or a
 * layout here raises PEER_ABI in both places.
 */
#include <linux/maple_tree.h>

#define PEER_ABI 1
#define EXPORT __attribute__((visibility("default")))

/* A kernel collects callbacks before it runs them: so many are let wait here. */
#define CALLBACKS_AT_ONCE 64

enum mode { PLAIN = 0, GAPS = 1, RCU = 2 };
enum act { STORE = 0, REMOVE = 1, ERASE = 2 };

struct area {
	u64 first;
	u64 last;
	u64 value;
};

struct step {
	u64 act;
	u64 first;
	u64 last;
	u64 value;
};

struct peer {
	struct maple_tree tree;
	bool shared;
};

void maple_tree_init(void);

EXPORT u64 peer_abi(void)
{
	return PEER_ABI;
}

/* A single owner needs no lock: the flag says that one is held outside. */
EXPORT void *peer_new(u64 mode)
{
	static const unsigned int flags[] = {
		[PLAIN] = MT_FLAGS_LOCK_EXTERN,
		[GAPS] = MT_FLAGS_LOCK_EXTERN | MT_FLAGS_ALLOC_RANGE,
		[RCU] = MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU,
	};
	static bool is_ready;
	struct peer *peer = malloc(sizeof(*peer));

	if (!is_ready) {
		maple_tree_init();
		is_ready = true;
	}
	if (!peer)
		return NULL;
	peer_slab_renew();
	peer->shared = mode == RCU;
	mt_init_flags(&peer->tree, flags[mode]);
	return peer;
}

EXPORT void peer_free(struct peer *peer)
{
	__mt_destroy(&peer->tree);
	peer_rcu_run(1);
	free(peer);
}

EXPORT void *peer_duplicate(struct peer *from)
{
	enum mode mode = from->shared ? RCU : from->tree.ma_flags & MT_FLAGS_ALLOC_RANGE ? GAPS : PLAIN;
	struct peer *peer = peer_new(mode);

	if (peer && __mt_dup(&from->tree, &peer->tree, GFP_KERNEL)) {
		free(peer);
		return NULL;
	}
	return peer;
}

/* The owner's functions, or those that take the tree's lock themselves. */
static inline int store(struct peer *peer, u64 first, u64 last, void *entry)
{
	if (peer->shared) {
		int error = mtree_store_range(&peer->tree, first, last, entry, GFP_KERNEL);

		peer_rcu_run(CALLBACKS_AT_ONCE);
		return error;
	}

	MA_STATE(state, &peer->tree, first, last);
	return mas_store_gfp(&state, entry, GFP_KERNEL);
}

static inline void erase(struct peer *peer, u64 index)
{
	if (peer->shared) {
		mtree_erase(&peer->tree, index);
		peer_rcu_run(CALLBACKS_AT_ONCE);
		return;
	}

	MA_STATE(state, &peer->tree, index, index);
	mas_erase(&state);
}

EXPORT int peer_build(struct peer *peer, const struct area *areas, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int error = store(peer, areas[i].first, areas[i].last, (void *)areas[i].value);

		if (error)
			return error;
	}
	return 0;
}

/*
 * Ascending stores from one state, which stays where it is; where the tree still has a mode for it
 * the number of entries is announced. Readers cannot be there yet, so that mode of theirs is off.
 */
EXPORT int peer_bulk(struct peer *peer, const struct area *areas, size_t count)
{
	MA_STATE(state, &peer->tree, 0, 0);
	int error = 0;

	if (peer->shared)
		mt_clear_in_rcu(&peer->tree);
	if (peer->shared)
		mas_lock(&state);
#ifdef PEER_HAS_EXPECTED_ENTRIES
	error = mas_expected_entries(&state, count);
#endif
	for (size_t i = 0; i < count && !error; i++) {
		state.index = areas[i].first;
		state.last = areas[i].last;
		mas_store(&state, (void *)areas[i].value);
		if (mas_is_err(&state))
			error = xa_err(state.node);
	}
	mas_destroy(&state);
	if (peer->shared) {
		mas_unlock(&state);
		mt_set_in_rcu(&peer->tree);
	}
	return error;
}

EXPORT int peer_apply(struct peer *peer, const struct step *steps, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct step *step = &steps[i];
		int error = 0;

		switch (step->act) {
		case STORE:
			error = store(peer, step->first, step->last, (void *)step->value);
			break;
		case REMOVE:
			error = store(peer, step->first, step->last, NULL);
			break;
		default:
			erase(peer, step->first);
		}
		if (error)
			return error;
	}
	return 0;
}

EXPORT size_t peer_read(struct peer *peer, struct area *areas, size_t most)
{
	MA_STATE(state, &peer->tree, 0, 0);
	size_t found = 0;
	void *entry;

	rcu_read_lock();
	mas_for_each(&state, entry, ULONG_MAX) {
		if (found == most)
			break;
		areas[found++] = (struct area){ state.index, state.last, (u64)entry };
	}
	rcu_read_unlock();
	return found;
}

EXPORT u64 peer_iterate(struct peer *peer)
{
	MA_STATE(state, &peer->tree, 0, 0);
	u64 sum = 0;
	void *entry;

	rcu_read_lock();
	mas_for_each(&state, entry, ULONG_MAX)
		sum += state.index ^ state.last ^ (u64)entry;
	rcu_read_unlock();
	return sum;
}

EXPORT u64 peer_look_up(struct peer *peer, const u64 *keys, size_t count)
{
	u64 sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += (u64)mtree_load(&peer->tree, keys[i]);
	return sum;
}

EXPORT u64 peer_look_up_dependent(struct peer *peer, const u64 *keys, size_t count, u64 zero)
{
	u64 found = 0;

	for (size_t i = 0; i < count; i++)
		found = (u64)mtree_load(&peer->tree, keys[i] ^ (found & zero));
	return found;
}

EXPORT u64 peer_lowest_gap(struct peer *peer, u64 first, u64 last, u64 length)
{
	MA_STATE(state, &peer->tree, 0, 0);

	return mas_empty_area(&state, first, last, length) ? ULONG_MAX : state.index;
}

EXPORT u64 peer_highest_gap(struct peer *peer, u64 first, u64 last, u64 length)
{
	MA_STATE(state, &peer->tree, 0, 0);

	return mas_empty_area_rev(&state, first, last, length) ? ULONG_MAX : state.index;
}

EXPORT u64 peer_bytes(void)
{
	peer_rcu_run(1);
	return peer_slab_bytes();
}
