// One transformer layer on a GPU, with the bits of the CPU's kernels.
//
// docs/numerics.md fixes the order of every operation; each kernel here repeats it, and says where it takes the freedom
// that the order leaves: integers, maxima and independent outputs may be computed in any order, sums of floats may not.
// So threads split outputs and terms; where terms of one sum come from several threads, they meet in shared memory, and
// one thread adds them in order.
//
// Arithmetic goes through the functions below: `__fadd_rn` and the like are IEEE 754 operations that no compiler fuses.
//
// This file is compiled twice: by NVRTC for a card, which brings the intrinsics, so nothing is included; and by any
// C++ compiler within emulator.cpp, which defines them, so that tests can compare bits where there is no card.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;

#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void

// Lanes of a sum, outputs of a panel of weights, positions of half a page.
#define LANES 16u
// Values of a block; positions of a page, which is a tile of attention; threads of a warp.
#define BLOCK 32u
// The widest head; the host refuses wider ones.
#define HEAD_MAX 256u

// ---------------------------------------------------------------------------------------------------- arithmetic

DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float sub(float a, float b) { return __fsub_rn(a, b); }
DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float div(float a, float b) { return __fdiv_rn(a, b); }

// a * b + c, rounded once. Without it (for a test of the compiler's output only) no fused operation must be left.
DEVICE float fused(float a, float b, float c) {
#ifdef SKEIN_NOTHING_FUSED
    return add(mul(a, b), c);
#else
    return __fmaf_rn(a, b, c);
#endif
}

DEVICE float larger(float a, float b) { return a > b ? a : b; }
DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }

// 1.5 * 2^23: added to a small number, it leaves the nearest integer, ties to even, in the lowest bits.
#define ROUND 12582912.0f

// 2^n for n in -126..=127.
DEVICE float power_of_two(u32 n) { return __uint_as_float((n + 127u) << 23); }

// skein_base::math::exp, operation for operation.
DEVICE float exponential(float x) {
    x = -104.0f > x ? -104.0f : x;
    x = 89.0f < x ? 89.0f : x;
    const float shifted = fused(x, 1.4426950408889634f, ROUND);
    const float n = sub(shifted, ROUND);
    float r = fused(n, -0.6933594f, x);
    r = fused(n, 2.1219444e-4f, r);
    float p = 1.9875691e-4f;
    p = fused(p, r, 1.3981999e-3f);
    p = fused(p, r, 8.333452e-3f);
    p = fused(p, r, 4.1665796e-2f);
    p = fused(p, r, 1.6666665e-1f);
    p = fused(p, r, 5.0e-1f);
    const float y = add(fused(p, mul(r, r), r), 1.0f);
    // Unsigned, since what a NaN leaves here may be anything; the shift keeps the sign.
    const u32 exponent = __float_as_uint(shifted) - __float_as_uint(ROUND);
    const u32 half = (u32)((int)exponent >> 1);
    return mul(mul(y, power_of_two(half)), power_of_two(exponent - half));
}

DEVICE float silu(float x) { return div(x, add(1.0f, exponential(sub(-0.0f, x)))); }

// Adds sixteen lanes: halves onto halves.
DEVICE float tree_sum(const float* lanes) {
    float sums[8];
#pragma unroll
    for (u32 i = 0; i < 8; i++) sums[i] = add(lanes[i], lanes[i + 8]);
#pragma unroll
    for (u32 width = 4; width > 0; width /= 2) {
#pragma unroll
        for (u32 i = 0; i < width; i++) sums[i] = add(sums[i], sums[i + width]);
    }
    return sums[0];
}

// A finite half-precision number: its bits as those of a single are 2^112 times too small. Exact, with subnormals.
DEVICE float widen_half(u16 bits) {
    const float magnitude = mul(__uint_as_float((u32)(bits & 0x7fffu) << 13), __uint_as_float(0x77800000u));
    return __uint_as_float(__float_as_uint(magnitude) | (u32)(bits & 0x8000u) << 16);
}

// ------------------------------------------------------------------------------------------- activations as bytes

// Quantised rows: 32 bytes for each row and block, its scale, and the sum of its bytes.
struct Quantised {
    i8* values;
    float* scales;
    int* sums;
};

// One block, a value for each thread of a warp; all its threads come here together.
DEVICE void quantise(float x, u64 block, Quantised to) {
    const u32 lane = threadIdx.x % BLOCK;
    // The largest magnitude, in any order. Zero times a value is no number where the value is none or infinite.
    float largest = __uint_as_float(__float_as_uint(x) & 0x7fffffffu);
    float poison = mul(x, 0.0f);
    for (u32 distance = BLOCK / 2; distance > 0; distance /= 2) {
        largest = larger(__shfl_xor_sync(0xffffffffu, largest, distance), largest);
        poison = add(__shfl_xor_sync(0xffffffffu, poison, distance), poison);
    }
    float scale = 0.0f, inverse = 0.0f;
    if (!(largest < 1e-30f)) {
        scale = div(largest, 127.0f);
        inverse = div(127.0f, largest);
    }
    const i8 value = (i8)(u8)__float_as_uint(add(mul(x, inverse), ROUND));
    int sum = value;
    for (u32 distance = BLOCK / 2; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    }
    to.values[block * BLOCK + lane] = value;
    if (lane == 0) {
        to.scales[block] = add(scale, poison);
        to.sums[block] = sum;
    }
}

// Rows of `width` floats to bytes. Grid: groups of as many blocks as a thread block has warps, rows.
KERNEL quantise_rows(const float* x, u32 width, i8* values, float* scales, int* sums) {
    const u32 blocks = (width + BLOCK - 1) / BLOCK;
    const u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index / BLOCK >= blocks) return;
    const float value = index < width ? x[(u64)blockIdx.y * width + index] : 0.0f;
    const Quantised to = {values, scales, sums};
    quantise(value, (u64)blockIdx.y * blocks + index / BLOCK, to);
}

// Rows of sixteen gates and sixteen ups in turn, for `width` values, to silu(gate) * up as bytes. Grid as above.
KERNEL gate_rows(const float* gate_up, u32 width, i8* values, float* scales, int* sums) {
    const u32 blocks = (width + BLOCK - 1) / BLOCK;
    const u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index / BLOCK >= blocks) return;
    const float* row = gate_up + (u64)blockIdx.y * ((width + LANES - 1) / LANES) * 2 * LANES;
    const float* pair = row + index / LANES * 2 * LANES + index % LANES;
    const float value = index < width ? mul(silu(pair[0]), pair[LANES]) : 0.0f;
    const Quantised to = {values, scales, sums};
    quantise(value, (u64)blockIdx.y * blocks + index / BLOCK, to);
}

// Values of a row that wait in shared memory at a time: a multiple of the lanes.
#define STAGED 4096u

// The factor 1 / sqrt(mean of squares + epsilon), from sixteen lanes of squares.
DEVICE float root_mean_square(const float* lanes, u32 width, float epsilon) {
    const float mean = div(tree_sum(lanes), __uint2float_rn(width));
    return div(1.0f, __fsqrt_rn(add(mean, epsilon)));
}

// RMSNorm of each row, to bytes. Grid: rows; whole warps. Sixteen threads are the sixteen lanes: the chain of a lane is
// as long as a sixteenth of the row, so that the others fetch for them.
KERNEL norm_rows(const float* x, const float* weight, u32 width, float epsilon, i8* values, float* scales, int* sums) {
    __shared__ float staged[STAGED];
    __shared__ float lanes[LANES];
    const float* row = x + (u64)blockIdx.x * width;
    float squares = 0.0f;
    for (u32 first = 0; first < width; first += STAGED) {
        const u32 count = least(STAGED, width - first);
        for (u32 i = threadIdx.x; i < count; i += blockDim.x) staged[i] = row[first + i];
        __syncthreads();
        if (threadIdx.x < LANES) {
#pragma unroll 8
            for (u32 i = threadIdx.x; i < count; i += LANES) squares = fused(staged[i], staged[i], squares);
        }
        __syncthreads();
    }
    if (threadIdx.x < LANES) lanes[threadIdx.x] = squares;
    __syncthreads();
    const float scale = root_mean_square(lanes, width, epsilon);
    const u32 blocks = (width + BLOCK - 1) / BLOCK;
    const Quantised to = {values, scales, sums};
    for (u32 block = threadIdx.x / BLOCK; block < blocks; block += blockDim.x / BLOCK) {
        const u32 i = block * BLOCK + threadIdx.x % BLOCK;
        const float y = i < width ? mul(mul(row[i], scale), weight[i]) : 0.0f;
        quantise(y, (u64)blockIdx.x * blocks + block, to);
    }
}

// ------------------------------------------------------------------------------- products with quantised matrices

// Threads of a product: sixteen outputs of a panel at each of sixteen places.
#define PLACES 16u
// Blocks whose terms wait in shared memory at a time: four for each place.
#define TERMS 64u

// The exact sum of a block's 32 products for one output. `words` are the output's first four weights; further ones follow
// sixteen outputs on. Weights are stored plus 128: the highest bit turned over takes that away.
struct Eight {
    static const u32 WORDS = 8;
    DEVICE int sum(const u32* words, const int* x, int) {
        int sum = 0;
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) sum = __dp4a((int)(words[i] ^ 0x80808080u), x[i], sum);
        return sum;
    }
};

// Of four bits: a word holds eight weights plus 8, which adds 8 times the sum of the activations.
struct Four {
    static const u32 WORDS = 4;
    DEVICE int sum(const u32* words, const int* x, int sum_of_x) {
        int sum = -8 * sum_of_x;
#pragma unroll
        for (u32 i = 0; i < WORDS; i++) {
            sum = __dp4a((int)(words[i] & 0x0f0f0f0fu), x[2 * i], sum);
            sum = __dp4a((int)(words[i] >> 4 & 0x0f0f0f0fu), x[2 * i + 1], sum);
        }
        return sum;
    }
};

struct Product {
    const u8* weights;
    const i8* x;
    const float* scales;
    const int* sums;
    const float* bias;
    float* out;
    u32 outputs, blocks, rows, accumulate;
};

// The term of one block for one output in one row: f32(sum) * (weight scale * activation scale).
template <class Form>
DEVICE float term(const Product& p, const u32* words, float weight_scale, u64 x_block) {
    int x[8];
    const int4* from = (const int4*)(p.x + x_block * BLOCK);
    const int4 low = from[0], high = from[1];
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
    const float sum = __int2float_rn(Form::sum(words, x, p.sums[x_block]));
    return mul(sum, mul(weight_scale, p.scales[x_block]));
}

// One panel of sixteen outputs for up to ROWS rows. All threads compute terms of different blocks; then one thread for
// each output and row adds them in order. Grid: tiles of rows, panels.
template <class Form, u32 ROWS>
DEVICE void product(const Product& p) {
    __shared__ float terms[TERMS][ROWS][LANES];
    const u32 output = threadIdx.x % LANES, place = threadIdx.x / LANES;
    const u32 row = blockIdx.x * ROWS, rows = least(ROWS, p.rows - row);
    const u32 stride = 2 * LANES + 4 * LANES * Form::WORDS;
    const u8* panel = p.weights + (u64)blockIdx.y * p.blocks * stride;
    float total = 0.0f;
    for (u32 first = 0; first < p.blocks; first += TERMS) {
        const u32 count = least(TERMS, p.blocks - first);
#pragma unroll 4
        for (u32 index = place; index < count; index += PLACES) {
            const u8* block = panel + (u64)(first + index) * stride;
            const float weight_scale = widen_half(((const u16*)block)[output]);
            u32 words[Form::WORDS];
#pragma unroll
            for (u32 i = 0; i < Form::WORDS; i++) {
                words[i] = ((const u32*)(block + 2 * LANES))[i * LANES + output];
            }
#pragma unroll
            for (u32 r = 0; r < ROWS; r++) {
                if (r >= rows) break;
                const u64 x_block = (u64)(row + r) * p.blocks + first + index;
                terms[index][r][output] = term<Form>(p, words, weight_scale, x_block);
            }
        }
        __syncthreads();
        if (place < rows) {
#pragma unroll 8
            for (u32 index = 0; index < count; index++) total = add(total, terms[index][place][output]);
        }
        __syncthreads();
    }
    const u32 o = blockIdx.y * LANES + output;
    if (place < rows && o < p.outputs) {
        if (p.bias) total = add(total, p.bias[o]);
        float* to = p.out + (u64)(row + place) * p.outputs + o;
        *to = p.accumulate ? add(*to, total) : total;
    }
}

#define PRODUCT(name, Form, ROWS)                                                                                      \
    KERNEL __launch_bounds__(PLACES * LANES)                                                                           \
    name(const u8* weights, const i8* x, const float* scales, const int* sums, const float* bias, float* out,          \
         u32 outputs, u32 blocks, u32 rows, u32 accumulate) {                                                          \
        const Product p = {weights, x, scales, sums, bias, out, outputs, blocks, rows, accumulate};                    \
        product<Form, ROWS>(p);                                                                                        \
    }

PRODUCT(product_q8_1, Eight, 1)
PRODUCT(product_q8_8, Eight, 8)
PRODUCT(product_q4_1, Four, 1)
PRODUCT(product_q4_8, Four, 8)

// ------------------------------------------------------------------------------------------- keys, values, queries

// Where keys and values lie, in floats; as PageLayout in kv.rs says. Keys of a head: [half of 16 positions][dim][16].
// Values: [position][dim, padded to a multiple of 16].
struct Pages {
    float* memory;
    // Pages of all sessions of the batch, and where those of a row's session begin.
    const u32* list;
    const u32* first;
    // Floats of a page, and where the layer begins in it.
    u32 page, layer;
    u32 kv_heads, dim;
};

DEVICE u32 padded(const Pages& p) { return (p.dim + LANES - 1) / LANES * LANES; }

DEVICE float* page_of(const Pages& p, u32 row, u32 index) {
    return p.memory + (u64)p.list[p.first[row] + index] * p.page + p.layer;
}

DEVICE u32 keys_of(const Pages& p, u32 head) { return head * BLOCK * p.dim; }

DEVICE u32 values_of(const Pages& p, u32 head) { return keys_of(p, p.kv_heads) + head * BLOCK * padded(p); }

// Norms (where there are norms of heads) and rotates q and k of every row [q | k | v]; q goes to `queries`, k and v into
// the pages. `angles` are pairs (cosine, sine), dim / 2 for each row. Grid: heads of q, k and v, rows.
KERNEL rotate_and_write(const float* qkv, const float* q_norm, const float* k_norm, float epsilon,
                        const float* angles, const u32* positions, float* queries, u32 heads,
                        float* memory, const u32* list, const u32* first, u32 page, u32 layer, u32 kv_heads, u32 dim) {
    __shared__ float values[HEAD_MAX];
    __shared__ float lanes[LANES];
    const Pages pages = {memory, list, first, page, layer, kv_heads, dim};
    const u32 head = blockIdx.x, row = blockIdx.y, turned = heads + kv_heads, half = dim / 2;
    const float* from = qkv + ((u64)row * (turned + kv_heads) + head) * dim;
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) values[i] = from[i];
    __syncthreads();
    const float* norm = head < heads ? q_norm : head < turned ? k_norm : 0;
    if (norm) {
        if (threadIdx.x < LANES) {
            float squares = 0.0f;
            for (u32 i = threadIdx.x; i < dim; i += LANES) squares = fused(values[i], values[i], squares);
            lanes[threadIdx.x] = squares;
        }
        __syncthreads();
        const float scale = root_mean_square(lanes, dim, epsilon);
        for (u32 i = threadIdx.x; i < dim; i += blockDim.x) values[i] = mul(mul(values[i], scale), norm[i]);
        __syncthreads();
    }
    if (head < turned) {
        for (u32 i = threadIdx.x; i < half; i += blockDim.x) {
            const float* angle = angles + ((u64)row * half + i) * 2;
            const float cosine = angle[0], sine = angle[1], a = values[i], b = values[i + half];
            values[i] = sub(mul(a, cosine), mul(b, sine));
            values[i + half] = add(mul(b, cosine), mul(a, sine));
        }
        __syncthreads();
    }
    const u32 slot = positions[row] % BLOCK;
    float* place = page_of(pages, row, positions[row] / BLOCK);
    if (head < heads) {
        float* to = queries + ((u64)row * heads + head) * dim;
        for (u32 i = threadIdx.x; i < dim; i += blockDim.x) to[i] = values[i];
    } else if (head < turned) {
        float* to = place + keys_of(pages, head - heads) + slot / LANES * dim * LANES + slot % LANES;
        for (u32 i = threadIdx.x; i < dim; i += blockDim.x) to[i * LANES] = values[i];
    } else {
        float* to = place + values_of(pages, head - turned) + slot * padded(pages);
        for (u32 i = threadIdx.x; i < padded(pages); i += blockDim.x) to[i] = i < dim ? values[i] : 0.0f;
    }
}

// ------------------------------------------------------------------------------------------------------ attention

// Tiles of 32 positions handled together, a warp for each.
#define TILES 4u
// Values of a head that a thread holds.
#define HELD (HEAD_MAX / (TILES * BLOCK))
// Steps of a product between additions to its running total.
#define RUN 64u

// q . k for the position of this thread, in the order of a product with a matrix.
DEVICE float dot(const float* query, const float* keys, u32 dim) {
    float total = 0.0f;
    for (u32 start = 0; start < dim; start += RUN) {
        const u32 end = least(start + RUN, dim);
        float sum = 0.0f;
#pragma unroll 8
        for (u32 k = start; k < end; k++) sum = fused(query[k], keys[k * LANES], sum);
        total = add(total, sum);
    }
    return total;
}

// The positions that a row sees: from `start` (a window of zero is none), and the tiles that hold them.
struct View {
    u32 position, start, first_tile, last_tile;
};

DEVICE View view_of(u32 position, u32 window) {
    const u32 start = window != 0 && position + 1 > window ? position + 1 - window : 0;
    const View view = {position, start, start / BLOCK, position / BLOCK};
    return view;
}

DEVICE bool sees(const View& view, u32 position) { return position >= view.start && position <= view.position; }

// The score of this thread's position in a tile, or minus infinity where it is not seen.
DEVICE float score(const Pages& pages, const float* query, const View& view, u32 kv_head, u32 tile, float scale) {
    const u32 row = blockIdx.y, lane = threadIdx.x % BLOCK;
    if (!sees(view, tile * BLOCK + lane)) return -__uint_as_float(0x7f800000u);
    const float* keys = page_of(pages, row, tile) + keys_of(pages, kv_head);
    keys += lane / LANES * pages.dim * LANES + lane % LANES;
    return mul(dot(query, keys, pages.dim), scale);
}

// The largest of a warp, in any order.
DEVICE float warp_maximum(float value) {
    for (u32 distance = BLOCK / 2; distance > 0; distance /= 2) {
        value = larger(__shfl_xor_sync(0xffffffffu, value, distance), value);
    }
    return value;
}

// A tile's values under their weights, for value `d` of the head. A run of a product is added to a total of zero, which
// turns a negative zero into a positive one.
DEVICE float weighted(const Pages& pages, const float* weights, const View& view, u32 kv_head, u32 tile, u32 d) {
    const u32 base = tile * BLOCK, width = padded(pages);
    const u32 from = view.start > base ? view.start - base : 0, to = least(BLOCK, view.position + 1 - base);
    const float* values = page_of(pages, blockIdx.y, tile) + values_of(pages, kv_head) + d;
    float sum = 0.0f;
#pragma unroll 8
    for (u32 j = from; j < to; j++) sum = fused(weights[j], values[j * width], sum);
    return add(0.0f, sum);
}

// One query head of one row over the positions that it sees. Grid: query heads, rows; TILES warps.
//
// The softmax is online, tile after tile. Its maximum after a tile is that of all scores so far, in whatever order: so the
// warps of a group of tiles compute scores at once, then exponentials; after that each thread walks through the tiles in
// order, with its lane of the sum of weights and its values of the output.
KERNEL attend(const float* queries, const u32* positions, float* out, u32 heads, u32 window, float score_scale,
              float* memory, const u32* list, const u32* first, u32 page, u32 layer, u32 kv_heads, u32 dim) {
    __shared__ float query[HEAD_MAX];
    __shared__ float weights[TILES][BLOCK];
    __shared__ float maxima[TILES];
    __shared__ float corrections[TILES];
    __shared__ float lanes[LANES];
    const Pages pages = {memory, list, first, page, layer, kv_heads, dim};
    const u32 row = blockIdx.y, kv_head = blockIdx.x / (heads / kv_heads);
    const u32 warp = threadIdx.x / BLOCK, lane = threadIdx.x % BLOCK;
    const u64 vector = ((u64)row * heads + blockIdx.x) * dim;
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) query[i] = queries[vector + i];
    __syncthreads();

    const View view = view_of(positions[row], window);
    float maximum = -__uint_as_float(0x7f800000u);
    float sum = 0.0f;
    float held[HELD];
#pragma unroll
    for (u32 h = 0; h < HELD; h++) held[h] = 0.0f;

    for (u32 tile = view.first_tile; tile <= view.last_tile; tile += TILES) {
        const u32 tiles = least(TILES, view.last_tile - tile + 1);
        float own = 0.0f;
        if (warp < tiles) {
            own = score(pages, query, view, kv_head, tile + warp, score_scale);
            const float largest = warp_maximum(own);
            if (lane == 0) maxima[warp] = largest;
        }
        __syncthreads();
        if (warp < tiles) {
            float before = maximum;
            for (u32 w = 0; w < warp; w++) before = larger(maxima[w], before);
            const float now = larger(maxima[warp], before);
            const bool seen = sees(view, (tile + warp) * BLOCK + lane);
            weights[warp][lane] = seen ? exponential(sub(own, now)) : 0.0f;
            if (lane == 0) corrections[warp] = exponential(sub(before, now));
        }
        __syncthreads();
        for (u32 w = 0; w < tiles; w++) {
            const float correction = corrections[w];
            maximum = larger(maxima[w], maximum);
            if (threadIdx.x < LANES) {
                sum = add(add(mul(sum, correction), weights[w][lane]), weights[w][LANES + lane]);
            }
#pragma unroll
            for (u32 h = 0; h < HELD; h++) {
                const u32 d = h * TILES * BLOCK + threadIdx.x;
                if (d >= dim) break;
                held[h] = fused(held[h], correction, weighted(pages, weights[w], view, kv_head, tile + w, d));
            }
        }
        __syncthreads();
    }
    if (threadIdx.x < LANES) lanes[threadIdx.x] = sum;
    __syncthreads();
    const float scale = div(1.0f, tree_sum(lanes));
#pragma unroll
    for (u32 h = 0; h < HELD; h++) {
        const u32 d = h * TILES * BLOCK + threadIdx.x;
        if (d < dim) out[vector + d] = mul(held[h], scale);
    }
}

// The same for few rows with long contexts, whose tiles would keep too few blocks busy: scores of all tiles; then, as the
// maximum up to a tile is known, its exponentials, its correction and its weighted values; then what goes in order.
// Scratch for each row and head: `tiles` times 32 weights (scores before), a maximum, a correction, and `dim` values.
struct Scratch {
    float* weights;
    float* maxima;
    float* corrections;
    float* values;
    u32 tiles;
};

// Where a tile of a row's head is in the scratch, counted in tiles from the first that the row sees.
DEVICE u64 slot_of(const Scratch& scratch, u32 heads, u32 head, u32 index) {
    return ((u64)blockIdx.y * heads + head) * scratch.tiles + index;
}

// Grid of this and the next: query heads times groups of TILES tiles, rows; TILES warps, a tile for each.
KERNEL score_tiles(const float* queries, const u32* positions, float* weights, float* maxima, u32 tiles,
                   u32 heads, u32 window, float score_scale,
                   float* memory, const u32* list, const u32* first, u32 page, u32 layer, u32 kv_heads, u32 dim) {
    __shared__ float query[HEAD_MAX];
    const Pages pages = {memory, list, first, page, layer, kv_heads, dim};
    const Scratch scratch = {weights, maxima, 0, 0, tiles};
    const u32 head = blockIdx.x % heads, index = blockIdx.x / heads * TILES + threadIdx.x / BLOCK;
    const float* from = queries + ((u64)blockIdx.y * heads + head) * dim;
    for (u32 i = threadIdx.x; i < dim; i += blockDim.x) query[i] = from[i];
    __syncthreads();
    const View view = view_of(positions[blockIdx.y], window);
    if (index > view.last_tile - view.first_tile) return;
    const float own = score(pages, query, view, head / (heads / kv_heads), view.first_tile + index, score_scale);
    const float largest = warp_maximum(own);
    const u64 slot = slot_of(scratch, heads, head, index);
    weights[slot * BLOCK + threadIdx.x % BLOCK] = own;
    if (threadIdx.x % BLOCK == 0) maxima[slot] = largest;
}

KERNEL weigh_tiles(const u32* positions, float* weights, const float* maxima, float* corrections, float* values,
                   u32 tiles, u32 heads, u32 window,
                   float* memory, const u32* list, const u32* first, u32 page, u32 layer, u32 kv_heads, u32 dim) {
    __shared__ float shared[TILES][BLOCK];
    const Pages pages = {memory, list, first, page, layer, kv_heads, dim};
    const Scratch scratch = {weights, 0, corrections, values, tiles};
    const u32 head = blockIdx.x % heads, warp = threadIdx.x / BLOCK, lane = threadIdx.x % BLOCK;
    const u32 index = blockIdx.x / heads * TILES + warp;
    const View view = view_of(positions[blockIdx.y], window);
    const bool exists = index <= view.last_tile - view.first_tile;
    const u64 slot = slot_of(scratch, heads, head, index);
    if (exists) {
        const float* row = maxima + slot_of(scratch, heads, head, 0);
        float before = -__uint_as_float(0x7f800000u);
        for (u32 i = lane; i < index; i += BLOCK) before = larger(row[i], before);
        before = warp_maximum(before);
        const float now = larger(row[index], before);
        const bool seen = sees(view, (view.first_tile + index) * BLOCK + lane);
        const float weight = seen ? exponential(sub(weights[slot * BLOCK + lane], now)) : 0.0f;
        shared[warp][lane] = weight;
        weights[slot * BLOCK + lane] = weight;
        if (lane == 0) corrections[slot] = exponential(sub(before, now));
    }
    __syncthreads();
    if (!exists) return;
    const u32 kv_head = head / (heads / kv_heads);
    for (u32 d = lane; d < dim; d += BLOCK) {
        values[slot * dim + d] = weighted(pages, shared[warp], view, kv_head, view.first_tile + index, d);
    }
}

// Grid: query heads, rows.
KERNEL join_tiles(const u32* positions, const float* weights, const float* corrections, const float* values,
                  u32 tiles, float* out, u32 heads, u32 window, u32 dim) {
    __shared__ float lanes[LANES];
    const Scratch scratch = {0, 0, 0, 0, tiles};
    const View view = view_of(positions[blockIdx.y], window);
    const u32 count = view.last_tile - view.first_tile + 1;
    const u64 slot = slot_of(scratch, heads, blockIdx.x, 0);
    if (threadIdx.x < LANES) {
        const float* row = weights + slot * BLOCK + threadIdx.x;
        float sum = 0.0f;
#pragma unroll 8
        for (u32 i = 0; i < count; i++) {
            sum = add(add(mul(sum, corrections[slot + i]), row[i * BLOCK]), row[i * BLOCK + LANES]);
        }
        lanes[threadIdx.x] = sum;
    }
    __syncthreads();
    const float scale = div(1.0f, tree_sum(lanes));
    for (u32 d = threadIdx.x; d < dim; d += blockDim.x) {
        float held = 0.0f;
#pragma unroll 8
        for (u32 i = 0; i < count; i++) held = fused(held, corrections[slot + i], values[(slot + i) * dim + d]);
        out[((u64)blockIdx.y * heads + blockIdx.x) * dim + d] = mul(held, scale);
    }
}

// --------------------------------------------------------------------------------------------------------- probes

// exp and silu alone, for tests.
KERNEL elementary(const float* x, float* exponentials, float* silus, u32 count) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    exponentials[i] = exponential(x[i]);
    silus[i] = silu(x[i]);
}

// Reads `count` times 16 bytes as fast as the card can, to know its bandwidth: the floor of a decode step. What is read
// is folded into `out`, so that no read can be left out.
KERNEL read_memory(const int4* data, u32 count, u32* out) {
    u32 folded = 0;
#pragma unroll 4
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const int4 four = data[i];
        folded ^= (u32)(four.x ^ four.y ^ four.z ^ four.w);
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = folded;
}
