#include "textflag.h"

// func dotRowsAVX2(q, rows, out *float32, dim, n int)
// out[i] = q · rows[i]. Four sums of eight lanes each, then eight at a time, then one.
TEXT ·dotRowsAVX2(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ rows+8(FP), DI
	MOVQ out+16(FP), DX
	MOVQ dim+24(FP), CX
	MOVQ n+32(FP), R8

row2:
	TESTQ R8, R8
	JZ    done2
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	MOVQ  SI, R9
	MOVQ  CX, R10
	SUBQ  $32, R10
	JL    by8

loop32:
	VMOVUPS (R9), Y4
	VMOVUPS 32(R9), Y5
	VMOVUPS 64(R9), Y6
	VMOVUPS 96(R9), Y7
	VFMADD231PS (DI), Y4, Y0
	VFMADD231PS 32(DI), Y5, Y1
	VFMADD231PS 64(DI), Y6, Y2
	VFMADD231PS 96(DI), Y7, Y3
	ADDQ $128, R9
	ADDQ $128, DI
	SUBQ $32, R10
	JGE  loop32

by8:
	ADDQ $24, R10 // remaining - 8
	JL   sum2

loop8:
	VMOVUPS (R9), Y4
	VFMADD231PS (DI), Y4, Y0
	ADDQ $32, R9
	ADDQ $32, DI
	SUBQ $8, R10
	JGE  loop8

sum2:
	VADDPS Y1, Y0, Y0
	VADDPS Y3, Y2, Y2
	VADDPS Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VHADDPS X0, X0, X0
	VHADDPS X0, X0, X0
	ADDQ $8, R10
	JZ   store2

loop1:
	VMOVSS (R9), X4
	VFMADD231SS (DI), X4, X0
	ADDQ $4, R9
	ADDQ $4, DI
	DECQ R10
	JNZ  loop1

store2:
	VMOVSS X0, (DX)
	ADDQ $4, DX
	DECQ R8
	JMP  row2

done2:
	VZEROUPPER
	RET

// func dotRowsAVX512(q, rows, out *float32, dim, n int)
// out[i] = q · rows[i]. Four sums of sixteen lanes each, then sixteen at a time, then a masked rest.
TEXT ·dotRowsAVX512(SB), NOSPLIT, $0-40
	MOVQ q+0(FP), SI
	MOVQ rows+8(FP), DI
	MOVQ out+16(FP), DX
	MOVQ dim+24(FP), BX
	MOVQ n+32(FP), R8

	// K1 = the low dim%16 bits; R11 = their bytes
	MOVQ BX, CX
	ANDQ $15, CX
	MOVQ CX, R11
	SHLQ $2, R11
	MOVL $1, AX
	SHLL CX, AX
	DECL AX
	KMOVW AX, K1

row5:
	TESTQ R8, R8
	JZ    done5
	VXORPS X0, X0, X0
	VXORPS X1, X1, X1
	VXORPS X2, X2, X2
	VXORPS X3, X3, X3
	MOVQ  SI, R9
	MOVQ  BX, R10
	SUBQ  $64, R10
	JL    by16

loop64:
	VMOVUPS (R9), Z4
	VMOVUPS 64(R9), Z5
	VMOVUPS 128(R9), Z6
	VMOVUPS 192(R9), Z7
	VFMADD231PS (DI), Z4, Z0
	VFMADD231PS 64(DI), Z5, Z1
	VFMADD231PS 128(DI), Z6, Z2
	VFMADD231PS 192(DI), Z7, Z3
	ADDQ $256, R9
	ADDQ $256, DI
	SUBQ $64, R10
	JGE  loop64

by16:
	ADDQ $48, R10 // remaining - 16
	JL   rest5

loop16:
	VMOVUPS (R9), Z4
	VFMADD231PS (DI), Z4, Z0
	ADDQ $64, R9
	ADDQ $64, DI
	SUBQ $16, R10
	JGE  loop16

rest5:
	TESTQ R11, R11
	JZ    sum5
	VMOVUPS.Z (R9), K1, Z4
	VMOVUPS.Z (DI), K1, Z5
	VFMADD231PS Z5, Z4, Z1
	ADDQ R11, DI

sum5:
	VADDPS Z1, Z0, Z0
	VADDPS Z3, Z2, Z2
	VADDPS Z2, Z0, Z0
	VEXTRACTF64X4 $1, Z0, Y1
	VADDPS Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VHADDPS X0, X0, X0
	VHADDPS X0, X0, X0
	VMOVSS X0, (DX)
	ADDQ $4, DX
	DECQ R8
	JMP  row5

done5:
	VZEROUPPER
	RET
