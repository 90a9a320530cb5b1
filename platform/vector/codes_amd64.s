#include "textflag.h"

// Sums of products of int16 (SI) with int8 (DI): two sums of eight lanes, 32 codes a round. R10 = codes left.
#define PRODUCTS(loop) \
loop: \
	VPMOVSXBW (DI), Y4       \
	VPMOVSXBW 16(DI), Y5     \
	VPMADDWD  (R9), Y4, Y4   \
	VPMADDWD  32(R9), Y5, Y5 \
	VPADDD    Y4, Y0, Y0     \
	VPADDD    Y5, Y1, Y1     \
	ADDQ      $32, DI        \
	ADDQ      $64, R9        \
	SUBQ      $32, R10       \
	JNZ       loop

// The same, with what comes some rows later fetched meanwhile.
#define AHEAD(loop) \
loop: \
	PREFETCHT0 3072(DI)      \
	VPMOVSXBW (DI), Y4       \
	VPMOVSXBW 16(DI), Y5     \
	VPMADDWD  (R9), Y4, Y4   \
	VPMADDWD  32(R9), Y5, Y5 \
	VPADDD    Y4, Y0, Y0     \
	VPADDD    Y5, Y1, Y1     \
	ADDQ      $32, DI        \
	ADDQ      $64, R9        \
	SUBQ      $32, R10       \
	JNZ       loop

// The sum of all lanes of Y0 and Y1 goes to X0.
#define TOTAL \
	VPADDD       Y1, Y0, Y0     \
	VEXTRACTI128 $1, Y0, X1     \
	VPADDD       X1, X0, X0     \
	VPSHUFD      $0x4E, X0, X1  \
	VPADDD       X1, X0, X0     \
	VPSHUFD      $0xB1, X0, X1  \
	VPADDD       X1, X0, X0

// func dotCodesAVX2(q *int16, codes *int8, out *int32, stride, n int)
// out[i] = q · codes[i*stride:]. stride is a multiple of 32.
TEXT ·dotCodesAVX2(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ codes+8(FP), DI
	MOVQ out+16(FP), DX
	MOVQ stride+24(FP), CX
	MOVQ n+32(FP), R8

row:
	TESTQ R8, R8
	JZ    done
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	MOVQ  SI, R9
	MOVQ  CX, R10
	AHEAD(loop)
	TOTAL
	VMOVD X0, (DX)
	ADDQ  $4, DX
	DECQ  R8
	JMP   row

done:
	VZEROUPPER
	RET

// func gatherCodesAVX2(q *int16, rows **int8, out *int32, stride, n int)
// out[i] = q · rows[i][:stride]. While one row is worked on, the one after the next is fetched.
TEXT ·gatherCodesAVX2(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ rows+8(FP), BX
	MOVQ out+16(FP), DX
	MOVQ stride+24(FP), CX
	MOVQ n+32(FP), R8

row:
	TESTQ R8, R8
	JZ    done
	CMPQ  R8, $3
	JL    near
	MOVQ  16(BX), R11
	MOVQ  CX, R10

fetch:
	PREFETCHT0 (R11)
	ADDQ $64, R11
	SUBQ $64, R10
	JG   fetch

near:
	MOVQ  (BX), DI
	ADDQ  $8, BX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	MOVQ  SI, R9
	MOVQ  CX, R10
	PRODUCTS(loop)
	TOTAL
	VMOVD X0, (DX)
	ADDQ  $4, DX
	DECQ  R8
	JMP   row

done:
	VZEROUPPER
	RET

// func widenAVX2(dst *int16, src *int8, stride int)
TEXT ·widenAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ stride+16(FP), CX

loop:
	VPMOVSXBW (SI), Y0
	VPMOVSXBW 16(SI), Y1
	VMOVDQU   Y0, (DI)
	VMOVDQU   Y1, 32(DI)
	ADDQ $32, SI
	ADDQ $64, DI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

// As above with 32 codes in a register: AVX512BW. One sum is enough, for adding takes one cycle.
#define WIDE(loop) \
loop: \
	PREFETCHT0 3072(DI)     \
	VPMOVSXBW (DI), Z4      \
	VPMADDWD  (R9), Z4, Z4  \
	VPADDD    Z4, Z0, Z0    \
	ADDQ      $32, DI       \
	ADDQ      $64, R9       \
	SUBQ      $32, R10      \
	JNZ       loop

// func dotCodesAVX512(q *int16, codes *int8, out *int32, stride, n int)
TEXT ·dotCodesAVX512(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ codes+8(FP), DI
	MOVQ out+16(FP), DX
	MOVQ stride+24(FP), CX
	MOVQ n+32(FP), R8

row:
	TESTQ  R8, R8
	JZ     done
	VPXORQ Z0, Z0, Z0
	MOVQ   SI, R9
	MOVQ   CX, R10
	WIDE(loop)
	VEXTRACTI64X4 $1, Z0, Y1
	TOTAL
	VMOVD X0, (DX)
	ADDQ  $4, DX
	DECQ  R8
	JMP   row

done:
	VZEROUPPER
	RET

// func gatherCodesAVX512(q *int16, rows **int8, out *int32, stride, n int)
TEXT ·gatherCodesAVX512(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ rows+8(FP), BX
	MOVQ out+16(FP), DX
	MOVQ stride+24(FP), CX
	MOVQ n+32(FP), R8

row:
	TESTQ R8, R8
	JZ    done
	CMPQ  R8, $3
	JL    near
	MOVQ  16(BX), R11
	MOVQ  CX, R10

fetch:
	PREFETCHT0 (R11)
	ADDQ $64, R11
	SUBQ $64, R10
	JG   fetch

near:
	MOVQ   (BX), DI
	ADDQ   $8, BX
	VPXORQ Z0, Z0, Z0
	MOVQ   SI, R9
	MOVQ   CX, R10
	WIDE(loop)
	VEXTRACTI64X4 $1, Z0, Y1
	TOTAL
	VMOVD X0, (DX)
	ADDQ  $4, DX
	DECQ  R8
	JMP   row

done:
	VZEROUPPER
	RET
