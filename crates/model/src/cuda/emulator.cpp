// The kernels of kernels.cu as ordinary C++, driven through standard input and output: what a card would compute, without
// a card. Slow, and exact: compile without contraction, and floats are IEEE 754 here as they are there.
//
//   c++ -std=c++17 -O2 -ffp-contract=off -o emulator emulator.cpp
//
// Threads of a block are fibers: each runs until it waits for others at `__syncthreads` or in a shuffle. In which order
// they run, and the blocks of a grid, is drawn anew for every launch, so that a barrier that is missing shows itself.
// Every buffer is an allocation of its own, so that a sanitizer sees what is read or written beyond it.
//
// Commands, native byte order: 'a' bytes:u64 allocates the next buffer, filled with 0xff; 'u' buffer:u32 count:u64 bytes
// uploads to its start; 'd' buffer:u32 count:u64 downloads; 'l' length:u32 name, grid x:u32 y:u32, block:u32, count:u32,
// arguments (kind:u8 value:u64) launches. What goes wrong ends the program with a message.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

[[noreturn]] static void die(const std::string& why) {
    std::fprintf(stderr, "emulator: %s\n", why.c_str());
    std::exit(1);
}

// ------------------------------------------------------------------------------------- what NVRTC brings for a card

#define __global__
#define __device__
#define __forceinline__ inline
// One block runs at a time.
#define __shared__ static
#define __launch_bounds__(threads)

struct Dimensions {
    unsigned x, y;
};
static Dimensions threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) int4 {
    int x, y, z, w;
};

static float __fadd_rn(float a, float b) { return a + b; }
static float __fsub_rn(float a, float b) { return a - b; }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fdiv_rn(float a, float b) { return a / b; }
static float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
static float __fsqrt_rn(float a) { return std::sqrt(a); }
static float __int2float_rn(int a) { return static_cast<float>(a); }
static float __uint2float_rn(unsigned a) { return static_cast<float>(a); }

static unsigned __float_as_uint(float a) {
    unsigned bits;
    std::memcpy(&bits, &a, sizeof bits);
    return bits;
}

static float __uint_as_float(unsigned bits) {
    float a;
    std::memcpy(&a, &bits, sizeof a);
    return a;
}

static int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 32; i += 8) {
        sum += static_cast<int8_t>(static_cast<unsigned>(a) >> i) * static_cast<int8_t>(static_cast<unsigned>(b) >> i);
    }
    return sum;
}

// ---------------------------------------------------------------------------------------------- the threads of a block

static const unsigned WARP = 32;
static const size_t STACK_BYTES = 128 << 10;

enum class State { Ready, AtBlock, AtWarp, Done };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    State state;
    // What a thread gives to the others of its warp.
    uint32_t given;
    void* fake_stack = nullptr;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned current;
static void (*body)();
static uint64_t draw_state = 1;

static unsigned draw(unsigned bound) {
    draw_state = draw_state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<unsigned>((draw_state >> 33) % bound);
}

static void shuffle(std::vector<unsigned>& order) {
    for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[draw(static_cast<unsigned>(i))]);
}

// A sanitizer must be told when the stack changes: before, and on arrival.
#ifdef __SANITIZE_ADDRESS__
static const void* scheduler_stack = nullptr;
static size_t scheduler_stack_bytes = 0;

static void leave(void** fake) {
    __sanitizer_start_switch_fiber(fake, scheduler_stack, scheduler_stack_bytes);
}

static void arrive(void* fake) {
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_stack_bytes);
}
#else
static void leave(void**) {}
static void arrive(void*) {}
#endif

static void wait_as(State state) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    leave(&fiber.fake_stack);
    swapcontext(&fiber.context, &scheduler);
    arrive(fiber.fake_stack);
}

static void __syncthreads() { wait_as(State::AtBlock); }

template <class T>
static T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    static_assert(sizeof(T) == 4, "shuffles move words");
    std::memcpy(&fibers[current].given, &value, 4);
    const unsigned other = current ^ mask;
    wait_as(State::AtWarp);
    T theirs;
    std::memcpy(&theirs, &fibers[other].given, 4);
    // Nobody gives anew before all have taken.
    wait_as(State::AtWarp);
    return theirs;
}

static void enter() {
    arrive(nullptr);
    body();
    fibers[current].state = State::Done;
    leave(nullptr);
    swapcontext(&fibers[current].context, &scheduler);
}

static void resume(unsigned thread) {
    current = thread;
    threadIdx = {thread, 0};
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fibers[thread].stack.get(), STACK_BYTES);
#endif
    swapcontext(&scheduler, &fibers[thread].context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

// Lets go on who waits for threads that have all come; whether anybody was.
static bool release(unsigned threads) {
    bool any = false;
    for (unsigned first = 0; first < threads; first += WARP) {
        const unsigned end = std::min(threads, first + WARP);
        unsigned waiting = 0;
        for (unsigned t = first; t < end; t++) waiting += fibers[t].state == State::AtWarp;
        if (waiting == 0) continue;
        if (waiting != WARP) die("a shuffle without the whole warp");
        for (unsigned t = first; t < end; t++) fibers[t].state = State::Ready;
        any = true;
    }
    if (any) return true;
    unsigned waiting = 0;
    for (unsigned t = 0; t < threads; t++) waiting += fibers[t].state == State::AtBlock;
    if (waiting == 0) return false;
    if (waiting != threads) die("a barrier without the whole block");
    for (unsigned t = 0; t < threads; t++) fibers[t].state = State::Ready;
    return true;
}

static void run_block(unsigned threads) {
    while (fibers.size() < threads) fibers.emplace_back();
    std::vector<unsigned> order;
    for (unsigned t = 0; t < threads; t++) {
        Fiber& fiber = fibers[t];
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        fiber.context.uc_link = nullptr;
        fiber.state = State::Ready;
        fiber.fake_stack = nullptr;
        makecontext(&fiber.context, enter, 0);
        order.push_back(t);
    }
    do {
        shuffle(order);
        for (unsigned t : order) {
            if (fibers[t].state == State::Ready) resume(t);
        }
    } while (release(threads));
}

// ------------------------------------------------------------------------------------------------------- the kernels

#include "kernels.cu"

struct Buffer {
    std::unique_ptr<char[]> memory;
    uint64_t bytes;
};

static std::vector<Buffer> buffers;

struct Argument {
    // 0: none; 1: a buffer; 2: a whole number; 3: the bits of a float.
    uint8_t kind;
    uint64_t value;
};

template <class T>
static T convert(const Argument& argument) {
    const uint64_t value = argument.value;
    if constexpr (std::is_pointer_v<T>) {
        if (argument.kind == 0) return nullptr;
        if (argument.kind != 1 || value >= buffers.size()) die("an argument is no buffer");
        return reinterpret_cast<T>(buffers[value].memory.get());
    } else if constexpr (std::is_same_v<T, float>) {
        if (argument.kind != 3) die("an argument is no float");
        return __uint_as_float(static_cast<unsigned>(value));
    } else {
        if (argument.kind != 2) die("an argument is no whole number");
        return static_cast<T>(value);
    }
}

static std::vector<Argument> arguments;

template <class... Parameters, size_t... Index>
static void call(void (*kernel)(Parameters...), std::index_sequence<Index...>) {
    kernel(convert<Parameters>(arguments[Index])...);
}

template <class... Parameters>
static void call(void (*kernel)(Parameters...)) {
    if (arguments.size() != sizeof...(Parameters)) die("a kernel with another number of arguments");
    call(kernel, std::index_sequence_for<Parameters...>());
}

#define ENTRY(name) {#name, [] { call(name); }}
static const std::map<std::string, void (*)()> kernels = {
    ENTRY(quantise_rows), ENTRY(gate_rows),    ENTRY(norm_rows),        ENTRY(product_q8_1), ENTRY(product_q8_8),
    ENTRY(product_q4_1),  ENTRY(product_q4_8), ENTRY(rotate_and_write), ENTRY(attend),       ENTRY(elementary),
    ENTRY(read_memory),   ENTRY(score_tiles),  ENTRY(weigh_tiles),      ENTRY(join_tiles),
};

// ------------------------------------------------------------------------------------------------------ the commands

static void read_bytes(void* to, size_t count) {
    if (count != 0 && std::fread(to, 1, count, stdin) != count) die("a command ends early");
}

template <class T>
static T read_value() {
    T value;
    read_bytes(&value, sizeof value);
    return value;
}

static Buffer& read_buffer() {
    const uint32_t index = read_value<uint32_t>();
    if (index >= buffers.size()) die("no such buffer");
    return buffers[index];
}

static void launch() {
    std::string name(read_value<uint32_t>(), ' ');
    read_bytes(&name[0], name.size());
    const auto found = kernels.find(name);
    if (found == kernels.end()) die("no kernel " + name);
    const unsigned width = read_value<uint32_t>(), height = read_value<uint32_t>();
    const unsigned threads = read_value<uint32_t>();
    if (threads % WARP != 0) die("blocks of whole warps only");
    arguments.resize(read_value<uint32_t>());
    for (Argument& argument : arguments) {
        argument.kind = read_value<uint8_t>();
        argument.value = read_value<uint64_t>();
    }
    body = found->second;
    gridDim = {width, height};
    blockDim = {threads, 1};
    std::vector<unsigned> order;
    for (unsigned block = 0; block < width * height; block++) order.push_back(block);
    shuffle(order);
    for (unsigned block : order) {
        blockIdx = {block % width, block / width};
        run_block(threads);
    }
}

int main() {
    for (int command = std::getchar(); command != EOF; command = std::getchar()) {
        if (command == 'a') {
            const uint64_t bytes = read_value<uint64_t>();
            buffers.push_back({std::unique_ptr<char[]>(new char[bytes]), bytes});
            // All ones are no number as a float: what was not written shows itself.
            std::memset(buffers.back().memory.get(), 0xff, bytes);
        } else if (command == 'u' || command == 'd') {
            Buffer& buffer = read_buffer();
            const uint64_t count = read_value<uint64_t>();
            if (count > buffer.bytes) die("more bytes than a buffer has");
            if (command == 'u') {
                read_bytes(buffer.memory.get(), count);
            } else {
                std::fwrite(buffer.memory.get(), 1, count, stdout);
                std::fflush(stdout);
            }
        } else if (command == 'l') {
            launch();
        } else {
            die("an unknown command");
        }
    }
    return 0;
}
