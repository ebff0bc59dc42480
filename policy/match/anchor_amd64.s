#include "textflag.h"

// func indexAVX2(b *byte, n, gap int, first, second, firstFold, secondFold byte) int
//
// AX is the place, Y0 and Y1 are the two bytes that are wanted, Y2 and Y3 what is put into those at hand before.
TEXT ·indexAVX2(SB), NOSPLIT, $0-40
	MOVQ b+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ gap+16(FP), DX
	ADDQ SI, DX
	VPBROADCASTB first+24(FP), Y0
	VPBROADCASTB second+25(FP), Y1
	VPBROADCASTB firstFold+26(FP), Y2
	VPBROADCASTB secondFold+27(FP), Y3
	XORQ AX, AX
	SUBQ $32, CX
	JZ   last

two: // 64 places at a time
	VPOR (SI)(AX*1), Y2, Y4
	VPOR (DX)(AX*1), Y3, Y5
	VPOR 32(SI)(AX*1), Y2, Y6
	VPOR 32(DX)(AX*1), Y3, Y7
	VPCMPEQB Y0, Y4, Y4
	VPCMPEQB Y1, Y5, Y5
	VPCMPEQB Y0, Y6, Y6
	VPCMPEQB Y1, Y7, Y7
	VPAND Y4, Y5, Y4
	VPAND Y6, Y7, Y6
	VPOR  Y4, Y6, Y5
	VPMOVMSKB Y5, BX
	TESTL BX, BX
	JNZ   found
	ADDQ  $64, AX
	CMPQ  AX, CX
	JLT   two
	JGT   none

last: // 32 are left
	VPOR (SI)(AX*1), Y2, Y4
	VPOR (DX)(AX*1), Y3, Y5
	VPCMPEQB Y0, Y4, Y4
	VPCMPEQB Y1, Y5, Y5
	VPAND Y4, Y5, Y4
	VPMOVMSKB Y4, BX
	TESTL BX, BX
	JZ    none
	JMP   bit

found:
	VPMOVMSKB Y4, BX
	TESTL BX, BX
	JNZ   bit
	VPMOVMSKB Y6, BX
	ADDQ  $32, AX

bit:
	BSFL BX, BX
	ADDQ BX, AX
	VZEROUPPER
	MOVQ AX, ret+32(FP)
	RET

none:
	VZEROUPPER
	MOVQ $-1, ret+32(FP)
	RET
