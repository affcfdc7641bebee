"""Blind check of the masker, written without sight of its rules: `python -m benchmarks.privacy_heldout [--misses]`.

In DOCUMENTS (§ starts one) `{..}` plants an item, `<k ..>` a distractor (#: digit, @, &: dates), `«a|b»` is a choice,
`¶` a line break. People: p patient, k kin, others; s surname, g given name, k/w kana, h hiragana, r romaji."""
import random
import re
import sys
import time
from collections import Counter, defaultdict

from faker import Faker

from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.privacy import PLACEHOLDERS, facility_list, mask

KINDS = dict(d="dose", l="lab", v="sign", t="date", c="hour", a="age", i="ICD", s="size", e="scale", r="range", x="no.")
RARE = """五十嵐/イガラシ/Igarashi 長谷部/ハセベ/Hasebe 関/セキ/Seki 髙橋/タカハシ/Takahashi 渡邉/ワタナベ/Watanabe
新垣/アラカキ/Arakaki 勅使河原/テシガワラ/Teshigawara 金/キム/Kim 原/ハラ/Hara 平/タイラ/Taira 喜屋武/キャン/Kyan"""
GIVEN = "トメ/トメ/Tome さくら/サクラ/Sakura 陽翔/ハルト/Haruto 蒼/アオイ/Aoi 千代子/チヨコ/Chiyoko 結/ユイ/Yui"
DOCUMENTS = """\
§診療情報提供書¶«紹介先|宛先»:{F} 内科 {a}«先生|先生 御机下|先生 侍史»¶紹介元:{G} {zip} {adr} TEL {tel} FAX {tel}¶医師\
氏名 {b} 印¶患者氏名 {p}«| 様| 殿»(«{pk}|{pw}»)«男|女» 生年月日 {dob}(<a 7#歳>)¶住所 {adr}¶電話 {tel}¶傷病名 #1 <e 橋本\
病> #2 高血圧症(<i I10>)¶平素より大変お世話になっております。{ps}«様|さん|氏»は<t @>より動悸を自覚され、<t &>に当院を初\
診。<l TSH 1#.4μIU/mL>、<l FT4 0.#ng/dL>、<v BP 15#/9#mmHg>でした。<d レボチロキシン25μg 1T 1×>を開始しております。ご多\
忙の折恐縮ですが、{as}先生に御高診いただければ幸いです。§退院時要約¶ID {pid} {p} <a 6#歳> «男性|女性» {dob}生¶入院日 <t\
 @> 退院日 <t @> 主治医 {a}/{bs} 指導医 {cs}¶【診断】急性心筋梗塞(<i I21.0>)、<e Forrester分類Ⅱ型>¶【経過】<t &> <c 0#:\
4#>頃より胸痛あり{F}へ救急搬送。<l CK 2,#41U/L>、<l 高感度トロポニンI 1#35pg/mL>。緊急PCI施行し<s LAD seg6にDES 3.0×2#m\
m>を留置、max CK <l 4#12>。術後<v HR 7#>、<r EF 4#-5#%>。本人および妻({kg}さん)に{as}より病状説明を行った。今後は{G}の{\
ds}先生に外来フォローを依頼。¶【退院時処方】<d アスピリン100mg 1錠>、<d プラスグレル3.75mg 1錠 分1 朝食後>、<d ビソプロ\
ロール2.5mg>§<t @> <c 1#:2#> 外来 {as}¶S)「先週から膝が痛い。{bs}先生の薬は効かなかった」と。娘の{mg}さん同伴。¶O)<v BT\
 36.#℃> <v BP 13#/7#> <v SpO2 9#%(RA)> <l HbA1c 7.#%> <l eGFR 5#.2> 右膝<r ROM 5-12#°>¶A)変形性膝関節症 <e K-L分類3>、2\
型糖尿病¶P)<d メトホルミン500mg 2T2×>継続、<d ロキソプロフェン60mg>頓用。次回<t &> <c 10:#0>。«{ps}さん|ご本人»の希望で\
{F}整形の{c}«先生|医師»宛に紹介状作成。連絡は長女携帯{tel}へ。§看護サマリー¶«患者氏名|お名前»:{p}«様|» «ふりがな:{ph}|\
フリガナ:{pk}» {dob}生 <a 8#才>¶«自宅|現住所»:{zip} {adr}¶キーパーソン:長男 {k}(同居) {tel} / 第2連絡先:次女 {m} {tel}¶\
受持Ns:{a} 主治医:{bs}Dr¶入院期間:<t @>〜<t @>¶【経過】誤嚥性肺炎(<i J69.0>)で入院。<v 体温38.#度>、<l CRP 1#.2>、<d SB\
T/ABPC 3g×4回/日>投与。<e 藤島式嚥下グレード7>、<e 長谷川式1#点>。<s 仙骨部に2.#×1.5cm>の発赤あり。¶【継続看護】食事は\
トロミ剤<d 1.5g/100mL>。{ps}様は難聴あり右耳から話しかける。長男の{kg}氏は夜勤のため連絡は<c 1#時以降>が望ましい。 記載\
 {as}§手術記録¶患者:{p} ID:{pid} «DOB|生年月日»:{dob}¶手術日:<t @> 入室<c 8:4#> 執刀<c 9:2#> 終了<c 13:0#>¶術前診断:S状\
結腸癌 <e Stage Ⅲb> 術式:腹腔鏡下S状結腸切除術(D3)¶術者:{as} 助手:{bs}、{cs} 麻酔医:{ds} 器械出し:{es} 外回り:{f}¶所見:\
<s 腫瘍径 4#×35mm>、漿膜露出なし。<s 臍下に12mmポート>、IMAは根部で切離し({as})、再建は<s CDH2#mm>によるDST。<x ロット\
番号 T4#A12B>。出血量<l 3#mL>、尿量<l 4#0mL>。¶検体を家族(夫・{kg}様)に供覧。{bs}医師が同席。§上部消化管内視鏡検査報告\
書¶検査日 <t @> 依頼科 消化器内科 依頼医 {a} 施行医 {b} 介助 {cs}¶{pid} {pk} {p} «M|F» <a 5#Y> {dob}¶前処置:<d ミダゾラ\
ム#mg iv>、ブスコパンなし¶食道:<s 切歯より3#cm>にEGJ、<e LA分類 Grade A>、<e Barrett食道>SSBE<s C0M1>¶胃:<e 木村・竹本\
分類 O-#>の萎縮、前庭部小弯に<s 8mm大>の0-Ⅱc。NBI拡大で<e 八尾のVSCS>陽性。生検1個¶十二指腸:<e Brunner腺>過形成¶ダブル\
チェック:{as} «次回:|フォロー:»<r 3〜6か月>後§病理組織診断報告書¶受付番号 <x 26-0#412> 受付日 <t @> 報告日 <t @>¶依頼元\
:{F} 外科 {as}先生 病理診断医:{b}、{c}¶氏名:{p}({pw}) «患者番号|カルテNo.»:{pid} 年齢 <a 4#歳>¶【臨床診断】左乳癌疑い \
【材料】左乳房、針生検¶【所見】<s 径1#mm>の標本3本。<e Nottingham grade Ⅱ>相当の浸潤性乳管癌。<l ER 9#%>、<l HER2 score\
 1+>、<l Ki-67 1#〜2#%>。<e Paget病>の所見は認めない。切り出し {ds} / 鏡検 {bs}・{cs}§リハビリテーション実施計画書¶利用\
者名 {p} 殿 «男|女» 生年月日 {dob} 計画評価実施日 <t @>¶主治医 {as} リハ医 {bs} PT {cs} OT {ds} ST {es} NS {fs}¶原因疾\
患 左被殻出血(発症日:<t @>) 合併症 高血圧(<i I10>)¶<e Brunnstrom stage 上肢Ⅲ 手指Ⅱ 下肢Ⅳ>、<e 上田の12段階片麻痺機能テ\
スト#>、<l FIM 7#点>、<l 10m歩行 2#.4秒>、<v 運動時HR 1#0以下>¶目標:<r 4〜6週>で屋内T字杖歩行自立。本人「畑に出たい」。\
妻の{kg}さんは腰痛があり、家屋調査に{cs}PT・{ds}OTが同行予定(<t &> <c 14:#0>)。¶本人・家族氏名 {k} 続柄 妻 説明者 {b}§\
薬剤管理指導記録 <t @> 薬剤師:{a}¶{ps} {pg}さん(<a 7#歳>) 病棟3東 <x 31#号室>¶持参薬:<d ワーファリン1mg 2.5錠>、<d フロ\
セミド20mg 1T>、<d アムロジピンOD錠5mg>¶<l PT-INR 2.#1> <l K 4.#mEq/L> <l Cr 1.#3>¶S:「{S}クリニックでもらっていた薬と\
は違うの」¶O:お薬手帳は{F}発行。<t &>より<d クラリスロマイシン200mg>併用あり。¶A/P:相互作用につき{cs}医師へ疑義照会→<t \
&> <c 16:#2>中止の指示受け。一包化を希望され、退院後は{Y}の{ds}薬剤師へ情報提供書をFAX({tel})。§透析記録 第<x 1#24>回 <\
t @>(月) <c 8:3#>開始〜<c 12:3#>終了¶氏名 {p} No.{pid} ベッド<x B-1#>¶DW <s 5#.4kg> 前体重 <s 5#.9kg> 除水 <l 2.#L> QB \
<v 2#0mL/min>¶抗凝固 <d ヘパリン初回1000単位、持続500単位/時> ESA <d ダルベポエチン30μg>¶<v 前BP 16#/8#> <v 後BP 12#/6#\
>¶<c 10:1#> 下肢つり訴えあり、<d 10%NaCl 20mL>静注。{as}Drへ報告 ({bs})¶<c 11:3#> 症状軽快、{ps}氏TV視聴中 ({cs})¶穿刺:\
{bs} 介助:{cs} 返血:{ds} 回診:{as}¶<e Kt/V 1.#>、<l Hb 10.#>、<l iPTH 1#8>§助産録¶産婦 {p}(旧姓 {ms}) <a 3#歳> {dob}生 \
職業 会社員¶«住所|里帰り先»{adr} TEL{tel}¶夫 {k} <a 3#歳> 立ち会い希望あり¶<e Naegele概算法>による予定日<t @>、G2P1、<r\
 39w#d>¶<t &> <c 2:1#>陣発 <c 5:4#>破水 <c 7:3#>児頭娩出 <e Apgarスコア 8/9>¶児:女 <s 3#42g> <s 49.#cm> 名前は「{kg}の\
一字」で検討中 出血 <l 3#0mL>¶<v 胎児心拍14#bpm>、<e Bishopスコア #点>、<d オキシトシン5単位>点滴。分娩介助 助産師{as} \
間接介助 {bs} 児受け {cs} 立会医師 {ds}¶{ps}さん「すぐ抱けて嬉しい」§医療保護入院者の入院届¶<t @> {G} 管理者 {a}¶フリガ\
ナ {pk}¶氏名 {p} 生年月日 {dob}(満<a 4#歳>)¶住所 {adr}¶入院年月日 <t @> 病名 統合失調症 ICDカテゴリー(<i F20>)¶生活歴及\
び現病歴:同胞2名の第1子。大学中退後、<a 2#歳>時に幻聴が出現し{F}を受診。<t @>以降怠薬、<c 深夜2時>に大声をあげ父({kg})\
に手をあげた。<d リスペリドン#mg>、<d オランザピン10mg>内服。<e Schneiderの一級症状>あり。陳述者 {k}(続柄 父)¶指定医氏\
名 {b}¶同意した家族等 氏名 {m} 続柄 姉 {dob}生 住所 {adr}§訪問診療メモ <t @> {as}・{bs}Ns¶{ps}宅(«{adr}|{adr}、鍵はポス\
ト内»)¶<v T36.#> <v P7#整> <v BP11#/6#> <v Sat9#%(O2 1L)>¶前立腺癌骨転移。<d フェンタニルテープ#mg>へ増量後NRS <r 6→3>\
。嫁の{kg}さんより「夜<c 3時頃>にうわごと」。せん妄として<d クエチアピン25mg 0.5T 眠前>。¶次回<t &>。緊急時は{G}訪看の{\
cs}さん{tel}へ。{ps}さん本人は自宅看取り希望、長男{kg}は入院希望で意見割れ。§【救急隊引継】覚知<c 06:1#> 現着<c 06:2#> \
病着<c 06:5#> ○○救急2 隊長 {a}¶傷病者 {pk} {p} <a 7#歳> {dob} {adr}¶通報者 妻 {k} {tel}¶主訴 右半身脱力 LSN<c 05:3#> <v\
 JCS Ⅱ-10> <v GCS E3V4M#> <v BP18#/10#> <v HR9#不整> <v SpO2 9#%> <v 瞳孔3/3>¶<e 倉敷プレホスピタル脳卒中スケール#点> <\
e Cincinnati 陽性>¶かかりつけ {F} {bs}医師 Af <d エリキュース2.5mg>内服中¶受入:当直{cs} NIHSS <l 1#点> <d rt-PA 0.6mg/k\
g> 体重<s 6#kg> 家族到着<c 07:2#>、{ds}が対応§«返戻»レセプト照会票 <t @>¶医療機関 {F} 診療科 整形外科 担当 {as}¶保険者\
番号 {ins} 記号 {sym} 番号 {num} 本人¶公費負担者番号 {kouhi} 受給者番号 {jukyu}¶氏名 {p} {dob}生 診療年月 令和8年#月分¶\
返戻理由:資格喪失後の受診(喪失日 <t @>)。傷病名「<e Dupuytren拘縮>」(<i M72.0>)に対する手術(K0992)の算定要件について症\
状詳記を求む。請求点数 <x 2#,341点>。¶照会先:審査課 {b} TEL {tel}(内線2#1)¶経過:{ps}様へ電話し新しい保険証を確認。新番\
号は{ins}、{sym}・{num}。医事課 {cs}§電話メモ <t @> <c 13:4#> 受:{as}¶{p}さん(ID{pid})より入電。«{tel}|折り返し先 {tel}\
»¶<t &> <c 9:#0>の{bs}先生の予約を変更したい。→<t &> <c 15:#0>へ変更済。¶採血あり、<c 8時半>来院と案内。<d インスリン \
グラルギン#単位>は通常どおり、朝の<d メトホルミン>は中止と{cs}Nsに確認。代理で来る場合は娘さん({m}様)とのこと。メール連\
絡先 {mail}§MSW面談記録¶日時:<t @> <c 14:0#-15:1#> 面接者:{as}(MSW)¶対象:患者 {p}氏(<a 7#歳>)、長女 {m}氏、長女の夫 {ms\
}氏¶【相談内容】退院先について。長女宅({adr})は2階建て、<s 間口75cm>で車椅子が入らない。年金<x 月1#万円>、介護保険は要\
介護3(被保険者番号 {kaigo})。マイナンバー{my}を申請書に記載し市へ提出した。¶【経過】{bs}主治医によれば<e mRS 4>、嚥下<e\
 才藤分類#>、<r 2〜3週間>で転院可。{F}の{cs}相談員へ打診、<t &>に回答予定。{ps}氏は「娘に迷惑をかけたくない」と涙ぐまれ\
た。{mg}氏の連絡先:{tel}、{mail}§FAX送信票 <t @>¶To:{F} 居宅介護支援 ケアマネジャー {a}様 FAX {tel}¶From:{G} 地域連携室\
 {b} TEL {tel} {mail}¶件名:{ps}様の退院について(計2枚)¶いつもお世話になります。標記の利用者様({p}様、{dob}生、被保険者\
番号{kaigo})ですが、<t &> <c 10時#0分>頃の退院が決まりました。ADLは<l BI 5#点>、歩行器で<s 2#m>可。<d 酸素1L/分>(労作時\
2L)、<v SpO2 9#%>以上を目標。褥瘡<e DESIGN-R 1#点>。福祉用具の{cs}さんにも情報共有をお願いします。同居のお孫さん({kg}く\
ん)が<t &>まで発熱しておりました。§定期健康診断結果票¶事業所 {co} 受診日 <t @> 健診番号 <x 0#17>¶氏名 {p} カナ {pw} 生\
年月日 {dob} «男|女» <a 4#歳>¶保険者番号 {ins} 記号・番号 {sym}-{num}¶{zip} {adr}¶身長 <s 17#.3cm> 体重 <s 6#.8kg> 腹囲\
 <s 8#.5cm> 視力 <l 右0.# 左1.2>¶血圧 <v 12#/7#mmHg> AST <l 2#> ALT <l 3#> γ-GTP <l 5#> TG <l 1#8> HDL <l 5#> 空腹時血\
糖 <l 9#mg/dL>(基準 <r 70〜109>)¶心電図:<e Brugada型>波形疑い 眼底:<e Scheie H1S0>、<e Keith-Wagener 0群>¶判定医 {a} 問\
診医:{bs} 要精査の方は{F}({tel})へ§ご報告¶{F} 院長 {a} 先生 御侍史¶<t @> {G} 循環器内科 {b}¶患者様:{p} 様 {dob} 生まれ¶\
拝啓 時下ますますご清祥のこととお慶び申し上げます。この度は{ps}様をご紹介いただき誠にありがとうございました。<t &>に施\
行した心エコーで<l LVDd 5#mm>、<l AVA 0.#cm²>、<l 平均圧較差4#mmHg>と重症ASを認め、<e Heyde症候群>の可能性も含め当院{cs\
}とも相談のうえ、TAVI(<s 弁径2#mm>)を予定しております。<d フロセミド20mg>は継続、<l BNP 3#2pg/mL>。ご家族(ご長男 {k}様)\
にも説明済みです。今後とも{as}先生のご指導を賜りますようお願い申し上げます。§多職種カンファレンス記録 <t @> <c 16:3#〜1\
7:0#>¶出席:{a}(Dr)、{b}(病棟師長)、{c}(薬)、{ds}(PT)、{es}(栄)、{f}(MSW)¶症例:<x 50#号> {ps}氏 <a 8#F> <e Lewy小体型認\
知症>、大腿骨頸部骨折術後 <t @>op¶{as}:骨癒合は良好、<e Garden Ⅲ>。荷重<r 1/2→全荷重>を<t &>から。¶{ds}:歩行器<s 3#m>軽\
介助。<l TUG 2#秒>。{cs}:<d ドネペジル5mg>で徐脈(<v HR 4#>)のため減量提案。¶{bs}師長:夜間<c 1時〜4時>に離床多い。家族は\
次男{kg}さんのみ面会。¶→方針:{fs}さんが施設候補を3件提示、<t &>再検討。§インシデント報告(レベル1) 報告者:{a} 職種:看護\
師(経験<x #年>)¶発生日時 <t @> <c 21:1#> 場所 4西病棟 <x 41#号室>¶当事者:{bs} 患者:{p}(ID {pid}、<a 6#歳>)¶内容:同室の{\
ms}様へ与薬すべき<d バルサルタン80mg>を{ps}様へ手渡した。{cs}看護師がダブルチェックで気付き内服前に回収。<v 血圧13#/8#>\
、変化なし。当直の{ds}先生へ<c 21:2#>報告、経過観察。主治医{es}には翌朝報告。¶要因:名字が似ている。リストバンドの確認漏\
れ。¶患者・家族への説明:<t &> {bs}・師長{f}より謝罪。§{pw} {p}¶{pid} {dob} «M|F» <a 6#Y>¶{F} 5E <x 50#-2> {as}¶<t @> <c\
 06:#0> 採血管:紫 EDTA <s 2mL> <x LAB-26#41>¶¶{pr}¶{pid}¶{dob} «Male|Female»¶BLOOD CULTURE <x set 2/2> <t @> Dr.{as} 採\
取者{bs}¶コメント:<d VCM 1g>投与前 <v BT 39.#> <l WBC 1#,200>§初診問診票¶ふりがな({ph})¶お名前({p}) «男・女» 生年月日:{\
dob}¶ご住所:{zip} {adr}¶お電話:自宅 {tel} 携帯 {tel} E-mail:{mail}¶緊急連絡先 お名前({m})ご関係(母) {tel}¶本日はどうさ\
れましたか:<t &>から咳と<v 37.#℃>の熱¶今までの病気:<e 川崎病>(<a #歳>)、虫垂炎(<a 1#歳>)¶飲んでいる薬:<d モンテルカスト\
10mg>を{S}医院でもらった 喫煙:<d 1日1#本>×<x 2#年> 身長<s 16#cm>¶ご紹介者:«{ks}さん|{ms}様»§主治医意見書 申請者 {p}(«{p\
h}|{pk}») {zip} {adr} 連絡先 {tel}¶{dob}生(<a 8#歳>) 被保険者番号 {kaigo} 個人番号 {my}¶医師氏名 {a} 医療機関名 {F} 所\
在地 {adr} 電話 {tel}¶最終診察日 <t @> 診断名 1.<e Parkinson病>(発症 <t @>頃) <e Hoehn-Yahr #> 2.腰部脊柱管狭窄症(<i M4\
8.0>)¶投薬:<d レボドパ・カルビドパ100mg 5錠 分5>、<d ロチゴチン4.5mg/24h>。<s 身長15#cm> <s 体重4#kg>(過去6か月 <r 2〜3\
kg>減)。<e 長谷川式 1#/30>。特記:同居の妻{kg}も要支援2。訪問看護{bs}氏より夜間転倒<x 月#回>の報告。"""
FORMS = {"h": {c: c - 96 for c in range(12449, 12535)}, "r": {c: c - 32 for c in range(97, 123)}}
WIDE, rng, fake = {c: c + 0xFEE0 for c in range(48, 58)}, random.Random(20261122), Faker("ja_JP")
fake.seed_instance(20261122)
TYPES = ("総合病院", "市民病院", "医療センター", "内科クリニック", "整形外科", "医院", "ケアセンター")
FACILITIES = [(f(), rng.choice(TYPES)) for f in (fake.town, fake.last_name) for _ in range(24)]
LISTED = sorted({"".join(one) for one in FACILITIES[::2]})  # the other half is not on the list
digits = lambda *patterns: re.sub("#", lambda _: str(rng.randint(1, 9)), rng.choice(patterns))
person = lambda: (*(rng.choice(names.split()).split("/") for names in (RARE, GIVEN)), "rare ") if (
    rng.random() < 0.2) else (fake.last_name_pair(), fake.first_name_pair(), "")

def checked(head, count, mine=False):  # `count` digits with the check digit of insurance numbers or of `my number`
    body = head + "".join(str(rng.randint(0, 9)) for _ in range(count - 1 - len(head)))
    rest = sum(int(c) * (i + 1 if i < 7 else i - 5) for i, c in enumerate(reversed(body), 1)) % 11
    luhn = -sum(sum(divmod(int(c) * (2 - i % 2), 10)) for i, c in enumerate(reversed(body))) % 10
    return body + str(luhn if not mine else 0 if rest < 2 else 11 - rest)

def date(low, high, form):
    y, m, d = rng.randint(low, high), rng.randint(1, 12), rng.randint(1, 28)
    a, b, n = ("令和", "R", y - 2018) if y > 2018 else ("平成", "H", y - 1988) if y > 1988 else ("昭和", "S", y - 1925)
    return (f"{y}年{m}月{d}日", f"{y}/{m:02}/{d:02}", f"{a}{n}年{m}月{d}日", f"{b}{n}.{m}.{d}", f"{y}-{m:02}-{d:02}",
            f"{y}.{m}.{d}", f"{a[0]}{n}.{m}.{d}", f"{y}{m:02}{d:02}")[form]

def item(key, people, gap, wide, places, patient):
    """(kind, detail, [(text, check)]); w: no two characters may survive, a number: no run of so many digits."""
    if key[0] in people and key[1:] in ("", *"skghwr"):
        column = {"k": 1, "h": 1, "w": 1, "r": 2}.get(key[1:], 0)
        parts = [part[column] for part in people[key[0]][:2]][key[1:] == "g":1 if key[1:] == "s" else 2]
        whole, form = max(map(len, parts)) < 2, FORMS.get(key[1:], {})
        pieces = [(x.translate(form), "w" if x[1:] or whole else 0) for x in parts]
        detail = people[key[0]][2] + ("reading" if column else "full" if len(parts) > 1 else "part")
        return "name", detail, [x for one in pieces for x in ((gap or " " * (column > 0), 0), one)][1:]
    if key in "FGYS":
        stem, kind = places["FG".index(key)] if key in "FG" else (fake.last_name(), "薬局" if key == "Y" else "")
        return "facility", "listed" if stem + kind in LISTED else "not listed", [(stem, "w"), (kind, 0)]
    if key == "adr":
        number = digits("#丁目#番1#号", "2#-#-1#", "#丁目#-#", "1##番地#", "##番地", "###の#", "#−1#−#").translate(wide)
        house, front = rng.choice(("", "", digits(f" {fake.building_name()}#0#"))), rng.choice((fake.prefecture(), ""))
        return "address", "", [(front + fake.city(), 0), (fake.town(), "w"), (number, 1), (house, 0)]
    if key == "mail":
        return "email", "", list(zip(fake.email().partition("@"), ("w", 0, 0)))
    area, mobile, form = f"{rng.randint(1, 47):02}", rng.choice("789").join(("0", "0-####-####")), rng.randint(0, 11)
    mine = rng.choice(("", "-", " ")).join(re.findall("....", checked("", 12, mine=True)))
    kind, text = {
        "co": (None, fake.company()), "pid": ("patient_number", patient),
        "dob": ("birth_date", date(1930, 2024, (form + form // 8) % 8)),
        "zip": ("postal_code", rng.choice(("〒", "〒 ", "")) + fake.postcode()), "my": ("my_number", mine),
        "tel": ("phone", digits(mobile, mobile, mobile.replace("-", ""), "03-####-####", "06(####)####",
                "0463-##-####", "(045)###-####", "0120-###-###", "092 ### ####", "0##-###-####", "0279(##)####")),
        "ins": ("insurance", checked(rng.choice(("06", "01", "31")) + area, 8)), "jukyu": ("insurance", checked("", 7)),
        "kouhi": ("insurance", checked(rng.choice(("21", "54")) + area, 8)), "kaigo": ("insurance", checked("0", 10)),
        "sym": ("insurance", digits("####")), "num": ("insurance", digits("##", "###", "####", "#######"))}[key]
    kind, detail = (kind + "_number", key) if kind == "insurance" else (kind, "")
    limit = 1 if kind == "birth_date" else min(5, sum(map(str.isdigit, text))) if kind else 0
    return kind, detail, [(text.translate(wide), limit)]

def record(document):
    people = {who: person() for who in "pkabcdefm"}
    people["k"] = people["p"][0], *people["k"][1:]
    patient = digits("#######", "########", "00########", "##-#####-#", "###-###-#", "#####")
    given = people, rng.choice(("", " ", "　")), rng.choice((WIDE, *[{}] * 6)), rng.sample(FACILITIES, 2), patient
    style, body = rng.randint(0, 6), re.sub("«([^»]*)»", lambda m: rng.choice(m[1].split("|")), document)
    for part in re.split(r"(\{\w+\}|<\w [^<>]*>)", body.strip().replace("¶", "\n")):
        text = part.replace("@", date(2019, 2026, style)).replace("&", rng.choice(("#/1#", "#月2#日")))
        yield item(part[1:-1], *given) if part[:1] == "{" else (
            "-" + KINDS[part[1]], "", [(digits(text[3:-1]), "all")]) if part[:1] == "<" else (
            "-words between" if re.search(r"[^\W\d]", part) else None, "", [(digits(part), "words")])

def good(text, left, check):
    if check in ("all", "words"):
        return all(a == b or (check == "words" and (a in "様氏殿医院" or not a.isalpha())) for a, b in zip(text, left))
    if check == "w":
        return not re.search("[^■]" * min(2, len(text)), left)
    return not check or "x" * check not in "".join("■x"[a == b] for a, b in zip(text, left) if a.isdigit())

def main():
    morphology, names, documents = Morphology(), facility_list(LISTED), DOCUMENTS.split("§")[1:]
    planted, found, misses, seconds = Counter(), Counter(), defaultdict(list), 0.0
    for n in range(1000):
        pieces = [(*head, [(normalize(text), check) for text, check in parts])
                  for *head, parts in record(documents[n % len(documents)])]
        text = "".join(part for *_, parts in pieces for part, _ in parts)
        seconds, at = seconds - time.perf_counter(), 0
        masked, _ = mask(text, morphology.tag(text), persons=True, facilities=names)
        seconds += time.perf_counter()
        spans = ")(.+?)(".join(map(re.escape, re.split("|".join(map(re.escape, PLACEHOLDERS.values())), masked)))
        spans = enumerate(re.fullmatch(f"({spans})", text, re.DOTALL).groups())
        left = "".join("■" * len(part) if i % 2 else part for i, part in spans)
        for kind, detail, parts in pieces:
            begin, well = at, True
            for part, check in parts:
                well, at = well and good(part, left[at:at + len(part)], check), at + len(part)
            for key in {kind, f"{kind}: {detail}" if detail else kind} - {None}:
                planted[key], found[key] = planted[key] + 1, found[key] + well
            if kind and not well:
                misses[kind].append((n % 25 + 1, text[begin:at], *(x[max(0, begin - 9):at + 9] for x in (text, left))))
    print("| kind (-: distractor) | planted | found or unchanged | share | goal |\n|---|--:|--:|--:|:--|")
    for key in sorted(planted, key=lambda key: (key[0] == "-", key)):
        goal = {"name": "≥ 95%", "facility": "none"}.get(key, "≥ 99%" if key in PLACEHOLDERS else "")
        print(f"| {key} | {planted[key]} | {found[key]} | {found[key] / planted[key]:.2%} | {goal} |")
    print(f"\n1000 records from {len(documents)} documents; {seconds:.1f} s of tagging and masking",
          *(x for kind in misses for x in (kind, *sorted(misses[kind])) if "--misses" in sys.argv), sep="\n")

if __name__ == "__main__":
    main()
